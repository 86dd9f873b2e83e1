"""The shell's tools: bytes, sockets, shared memory, timers and processes, without decisions."""
