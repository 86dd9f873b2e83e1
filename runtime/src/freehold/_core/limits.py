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

PREAMBLE_S = 5.0
"""The clear words before a TLS handshake have come within this; they are twenty bytes."""

OPEN_S = 10.0
"""From the first packet to another machine to the last of the handshake: a lost SYN is sent again
after 1, 3 and 7 s."""

AWAIT_PLACE_S = 5.0
"""A message may name a node that the view has not brought yet; views come once a second."""

OPENING_BYTES = 64 << 20
"""What may wait for a connection to open: one frame of the largest size."""

NETWORK_CONNECTIONS = 512
"""TCP connections of a process before idle ones are closed: half of the usual 1,024 descriptors."""

NETWORK_IDLE_S = 10.0
"""A connection without a byte for this long is idle: opening it anew takes some milliseconds."""

GOODBYE_S = 5.0
"""How long a connection that was bid goodbye may take to end before it is just closed."""

KEEPALIVE_S = 5
"""A silent TCP connection is probed after this, and each second from then on."""

UNANSWERED_S = 15
"""TCP gives up when nothing was acknowledged for this long: as long as a node may be silent."""

BULK_CHUNK_BYTES = 1 << 20
"""Stored bytes of another node that come in one piece: a system call costs nothing beside it, and
another range has its turn within a millisecond."""

BULK_TURN_BYTES = 1 << 20
"""Stored bytes that a node manager sends or takes in before it looks at anything else."""

BULK_RANGES = 64
"""Ranges that one node asks another for at the same time; what is wanted besides waits its turn."""

BULK_ERROR_BYTES = 4 << 10
"""Text that says why a range cannot be had."""

BULK_IDLE_S = 30.0
"""How long a connection for stored bytes is kept with nothing to bring."""

BULK_STALL_S = 15.0
"""Without a byte for this long while ranges are under way, its other end is taken as gone: as long
as TCP waits for an answer."""

DEAD_NODES = 1_000
"""Declared deaths that are remembered, to refuse who does not know of its own."""

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

HEARTBEAT_S = 2.0
"""A node's heartbeats, which the head answers: with FENCE_S, ASK_PEERS_S and the age of what peers
know, a node that is cut off stops before DEATH_SILENCE_S is over."""

ASK_PEERS_S = 1.0
"""Period at which a node that lost the head asks its peers, and how long their answers count."""

ASKED_PEERS = 8
"""Peers asked at a time: one that hears the head is enough, and many nodes may ask at once."""

RETURN_S = 30.0
"""Time that nodes have to come back to a control service that was started again; until then nobody
is declared dead. Above what reconnecting takes: name look-up, handshake, pauses of some seconds."""

DRAIN_ANSWER_S = 5.0
"""A node that is asked whether it is idle enough to be drained answers within this."""

UNHEARD = 10_000
"""What a node keeps to say again to a head that may not have heard it; past it the oldest goes. The
living processes and actors are told anew with each join, so only details are lost."""

GROUPS = 64
"""Groups of nodes that could be added; a FuturesCluster has 32 at the most."""

JOBS_ENDED = 1_000
"""Ended jobs remembered, so that none runs a second time; the oldest is forgotten first."""

DEAD_SHOWN_S = 3600.0
"""How long a dead node is listed."""

BLOCKED_AFTER_S = 0.002
"""A wait shorter than this does not give the CPU back: the two messages would cost more."""

ARGUMENT_PATIENCE_S = 0.5
"""The same for stored arguments on their way from another node: they come by themselves, and a node
that takes on more work meanwhile runs it all at once when they are there."""

PULLS_AHEAD = 64
PULLS_AHEAD_BYTES = 64 << 20
"""Values of other nodes that one reader has on their way beside the one that it waits for, …"""

AHEAD_PATIENCE_S = 1.0
"""… and gives back when it has waited so long for that one: it may wait for the room they take."""

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

# ---- hand-off and drain -----------------------------------------------------------------------

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

# ---- the control plane between machines -------------------------------------------------------

CONTROL_FRAME_BYTES = 72 << 20
"""Largest frame of the control plane: above the peer plane's, since an actor's code and arguments
pass there too."""

CONTROL_FRAME_MESSAGES = 256
"""Messages in one frame of a node's stream: a backlog after an outage goes out in few frames."""

KEEPALIVE_PERIOD_S = 3.0
"""A connection to or of the control service that is silent this long is pinged, …"""

KEEPALIVE_TIMEOUT_S = 2.0
"""… and given up when no answer comes within this: a dead peer is noticed within 5 s."""

STREAM_SILENCE_S = 6.0
"""A node's stream on which nothing came for this long is cut, by either end, and made again: each
says something every two or three seconds. gRPC's own pings do not notice a process that hangs."""

CONFIRM_S = 1.0
"""What was taken of a node's stream is confirmed within this, if nothing else is sent before."""

REPORT_PERIOD_S = 0.5
"""Least time between two reports of one node, but for one that goes along with a heartbeat: a node
sends two frames a second at the most where nothing but its load changes."""

STORE_NEWS_SHARE = 1 / 32
"""Of a store's size: by so much its use has to change for other nodes to be told of that alone."""

RECONNECT_FIRST_S = 0.2
"""Pause before a node tries the control service again, doubled each time and spread at random, …"""

RECONNECT_MOST_S = 5.0
"""… to this at the most: a restarted head has its nodes back within seconds."""

JOIN_PAUSE_FIRST_S, JOIN_PAUSE_GROWTH, JOIN_PAUSE_MOST_S = 0.1, 1.15, 1.0
"""The same for a node that joins the first time: people wait for it, and a try is one handshake."""

JOIN_TOLD_S = 2.0
"""How long it tries before it says so: a head and its nodes often start together."""

STRANGER_S = 5.0
"""How long a node that has its CA from a folder tries again when somebody else answers."""

PROOF_S = 10.0
"""Who opens a node's stream shows who it is within this."""

STREAM_FRAMES = 4
"""Frames, of some 1 MiB each at the most, that wait to be written to one stream; the rest waits
where it is numbered, and is bounded there."""

STREAM_WRITE_S = 10.0
"""A stream that takes no frame for this long, because its other end does not read, is cut."""

UNCONFIRMED_MESSAGES = 50_000
"""Messages kept for the other end of a node's stream, at some 100 bytes each; past it a control
service gives the node up, and a node drops the oldest requests of its processes."""

CONTROL_CALLS = 8_192
"""Calls and streams that a control service has open at once; past it new ones are refused."""

LAST_WORDS_S = 1.0
"""A node whose end somebody has seen is dead after this at the latest: what it said last may still
be under way."""

WATCHERS = 64
"""Clients that watch a cluster at once: operators, dashboards, people."""

WATCH_SILENCE_S = 10.0
"""A watched cluster without changes is shown again after this: silence means a dead connection."""

LEAF_S = 24 * 3600.0
"""Life of a node's certificate, if nobody chose another; renewed at half of it."""

LEAF_LEAST_S = 10.0
"""The shortest that may be chosen: a node looks whether to renew with each heartbeat, and the
answer may take a moment."""

LEAF_LOOK_S = 60.0
"""A head looks this often whether its own node's certificate is to be renewed, or eight times in
its life if that is more often."""

CA_DAYS = 3650
"""Life of the CA that `start --head` makes."""

CLOCK_SKEW_S = 300.0
"""Certificates are valid from this long before they were made: clocks of machines differ."""

CALL_S = 10.0
"""A call to the control service is given up after this."""

HEALTH_CONNECTIONS = 32
"""Connections to the health port at once; past it the oldest gives way."""

HEALTH_REQUEST_BYTES = 8 << 10
"""Largest head of a request there."""

HEALTH_S = 5.0
"""A request there is made and answered within this."""
