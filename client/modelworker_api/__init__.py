"""The contract between the operator, the worker and the client.

`kube` (standard library only) names things in Kubernetes; `wire` (pydantic) gives
the shapes that travel over HTTP. Neither imports anything else of this project.
"""
