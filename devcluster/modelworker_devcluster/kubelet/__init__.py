"""A process kubelet: runs the pods of one node as local processes.

A single-node development tool: no containers, no images, no isolation. What it
cannot do it refuses in the pod's status.
"""
