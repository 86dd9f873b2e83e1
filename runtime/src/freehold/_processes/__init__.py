"""The processes of a cluster, a folder each: control service, node manager, worker, driver."""
