"""The owner core: what drivers and workers share, the shell around `_core.ownership.owner`.

`core` joins the machine with the reactor, the connections and the store; `storage` reads and writes
the node's arena; `requests` asks the node manager and the control service; `context` says where the
calling thread is; `futures` serves those who wait without blocking.
"""
