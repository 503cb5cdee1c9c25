"""OpenAI's API on a worker of this package: read a request, run it, shape its answer."""
