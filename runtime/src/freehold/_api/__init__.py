"""The public API over the `Core` protocol: checks what the user wrote, then hands it down.

Everything that can be decided once is decided at decoration time or at the first call; a call
itself checks its arguments' count and goes straight to `core.submit_task` or `core.call_actor`.
`state` holds the current core. Nothing in here knows messages, tables or processes, and importing
it costs neither msgspec nor the core: those come with `init`.
"""
