"""Ownership (NSDI'21): the caller of a task owns the task and what it returns.

`table` has the rows and every transition of one; `reference` is what users hold; `queues` decides
which task goes to which leased worker; `actor_calls` keeps the order of calls to an actor;
`borrowing` and `recovery` keep counts and lost objects right across processes; `owner` is the
machine that joins them, driven alike by `_processes.owner` and the simulator.
"""
