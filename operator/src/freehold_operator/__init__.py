"""The Kubernetes operator of Freehold: turns `FuturesCluster` and `FuturesJob` into pods.

A pure core decides and a thin shell acts. `model` and `facts` are what is asked for and what there
is, `plan` and `jobs` make actions of them, `status` says what holds, `render` writes manifests.
Around them `reconciler` runs one object at a time, `cache` keeps what the watches tell, `kube`
alone speaks to the API server and `head` alone to a cluster's control service.

The operator keeps nothing of its own: after a restart it goes on from the API server. It imports
nothing of `freehold`, so that its image stays small and versions may differ.
"""

__version__ = "0.1.0"
