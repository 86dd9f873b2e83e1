"""The jobs of a cluster: which run, which have ended and how, and which may not run again.

`machine` decides, `events` are its language.
"""
