"""FastChat's worker protocol: read a request, run it, shape its answer."""
