"""The pure core: every decision of the runtime, as deterministic machines over plain values.

Nothing here reads a clock, draws a random number, opens a socket or starts a thread; the shell
(`freehold._io`, `freehold._processes`) turns bytes, timers and process exits into events for these
machines and carries their effects out. So the same code runs in production and in the simulator.
"""
