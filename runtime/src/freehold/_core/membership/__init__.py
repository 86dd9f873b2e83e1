"""The nodes of a cluster, as the control service knows them and tells the others.

`machine` decides, `events` are its language.
"""
