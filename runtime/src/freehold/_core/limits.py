"""Every limit of the runtime that is not a setting, with its unit in its name and its reason.

A number that a user may want to change is a setting (`_processes/*/settings.py`); what stands here
is part of the protocol or a guard against running away.
"""

FRAME_BYTES = 64 << 20
"""Largest frame accepted from a peer: above every legal batch, far below what would hurt."""

HELLO_BYTES = 64 << 10
"""Largest first frame of a connection: who has not said who it is costs no memory."""

HELLO_S = 5.0
"""An accepted connection says Hello within this; ours do with their first bytes."""

STRANGERS = 128
"""Accepted connections that have not said Hello; past it the oldest gives way, never the newest."""

FRAME_MESSAGES = 64
"""Messages per frame before the sender flushes: 1 → 119 k/s, 8 → 318 k/s, 64 → 420 k/s."""

HEADROOM_BYTES = 128 << 20
"""Memory of the machine, or of the cgroup, that the object store leaves for processes to live on;
of a small limit an eighth. Below it the store waits: the kernel would kill instead of refuse."""

INLINE_OUTPUT_BYTES = 100 << 10
"""A value up to this size travels in the reply and lives in its owner; larger ones are stored."""

INLINE_REPLY_BYTES = 1 << 20
"""What one reply may carry inline in all."""

INLINE_OUTPUTS = 16
"""With more outputs than this they stay in the node's store as one packed segment."""

WINDOW_US = 5_000
"""Measured work that a lease holds ahead: enough to hide a round trip, little enough to recall."""

WINDOW_TASKS = 512
"""Tasks in flight on one lease at the most, however short they are."""

LEASE_IDLE_S = 0.5
"""How long an owner keeps a lease that has nothing to run, in hope of the next task."""

LEASE_S = 5.0
"""A lease ends when its owner's connection has been down for this long."""

LATE_BORROW_S = 10.0
"""How long a row outlives an uncleanly dead borrower, for those it had passed the reference to."""

DROPS_PER_MESSAGE_SHARE = 64
"""A running task that drops its arguments one by one tells its caller of a 64th of them at a time:
each message makes the caller look at all that are left."""

LINEAGE_BYTES = 256 << 20
"""Arguments a process keeps of finished tasks, unless the setting `lineage_bytes` says otherwise;
past it an object is marked not re-derivable."""

SUPERVISORS = 8
"""Levels of tasks above an object that a reference names: one more for each owner that may die."""

RECONSTRUCTION_ATTEMPTS = 3
"""Executions spent on bringing back one lost object, apart from the task's own retries."""

REPLACEMENT_S = 30.0
"""What only a node that just died could run waits this long for another of its kind to join."""

FENCE_S = 10.0
"""A node that lost the head for this long, while its peers have not, stops and rejoins."""

DEATH_SILENCE_S = 15.0
"""Silence after which the control service declares a node dead; above FENCE_S plus clock margin."""

BLOCKED_AFTER_S = 0.002
"""A wait shorter than this does not give the CPU back: the two messages would cost more."""

FLUSH_AFTER_S = 0.005
"""The background leader's period: what a busy user thread left unsent leaves within it."""

PENDING_PROGRESS_S = 60.0
"""A submit that waits for pending tasks to let go of memory gives up when none does for this
long."""

FETCHED_VALUES = 10_000
"""Values of other nodes that a process remembers to have brought here: 0.2 KiB each."""

TASK_EVENTS = 2_000
"""Tasks that a process keeps the events of: forty bytes each."""

EXIT_LOG_LINES = 20
"""Last lines of a worker's output that its death is reported with."""

CANCEL_GRACE_S = 2.0
"""After a timed-out task was interrupted, the time it has to end before its worker is killed."""

HANDOFF_ROWS = 256
"""Rows that one message hands over: with their references some hundred bytes each."""

HANDOFF_BYTES = 1 << 20
"""Inline values that one message hands over."""

HANDOFF_PATIENCE_S = 10.0
"""How long a process that has handed all it owned over waits for borrowers to turn to the new
owner; one that is stopped finds it by the heir."""

HEIRS = 4_096
"""Processes that left, and who answers for what they owned: 100 bytes each. A reference that names
one of them is met within its task's life."""

DRAIN_LOOK_S = 0.1
"""How often a node that drains looks what is left."""

COPIES_AT_ONCE = 16
"""Stored ranges of a node that drains which are copied elsewhere at the same time, …"""

COPY_BYTES_AT_ONCE = 64 << 20
"""… and about their bytes, so that one node's pulls do not fill another's store at once."""

COPY_PAUSE_S = 0.5
"""Pause before a range that could not be copied is tried again."""

TELL_AGAIN_S = 0.5
"""How often an owner that has not answered is told again where its object is now."""

TELLS_IN_VAIN = 6
"""How often an owner may say that it does not know a stored range, whose task's answer may still be
under way, until it is taken as nobody's."""

COPIES_KNOWN = 65_536
"""Copies made for nodes that drain which a node remembers, should it be asked again."""
