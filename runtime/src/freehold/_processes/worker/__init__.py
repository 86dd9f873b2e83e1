"""The worker: a process that runs tasks, or is one actor; and owns what they submit.

`service` starts it and receives messages; `execution` runs one task from message to reply;
`loops` are the ways of running several (one after another, on threads, on an event loop);
`interrupts` ends a task from outside.
"""
