"""The object store of one node: which bytes of the arena hold what, and for how long.

`machine` decides, `events` are its language, `allocator` divides the arena, `segments`, `replicas`
and `views` keep the tables, `report` tells what holds the store. The bytes themselves are moved by
`freehold._io.shm` and never pass here.
"""
