"""The control service: membership and the actor directory; in node process 0 of the cluster."""
