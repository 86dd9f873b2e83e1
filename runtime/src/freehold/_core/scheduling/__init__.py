"""Leases of one node's workers: who gets one, who waits, who is sent to another node.

`machine` decides, `serving` carries out its grants, `events` are its language, `policy` chooses
nodes, `lines` keep what waits, `workers` the worker pool, `room` the node's resources, `view` what
is known of other nodes, `report` tells what is going on.
"""
