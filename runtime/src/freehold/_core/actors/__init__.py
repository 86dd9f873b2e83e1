"""The actors of a cluster: who they are, where they live, and what becomes of them.

`directory` decides, `events` are its language, `placing` chooses nodes.
"""
