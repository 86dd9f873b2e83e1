"""The node process: zygote, worker pool, leases, object store, transfer; process 0 of a node."""
