"""The operator: runs clusters and jobs on Kubernetes; never imports `freehold`."""
