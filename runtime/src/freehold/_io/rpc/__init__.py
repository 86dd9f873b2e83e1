"""The control plane between machines: gRPC with protobuf, and the only place that imports grpc.

`convert` turns messages into protobuf and back, `numbered` keeps what the other side has not
confirmed, `runtime` is the thread that grpc lives in, `server` and `link` are the two ends of a
node's stream, `calls` is what clients ask. Nothing here is imported by a cluster of one machine.
"""
