"""The HTTP routes: parse, ask the worker, answer."""
