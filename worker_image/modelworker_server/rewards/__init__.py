"""Rewards over HTTP: read a request, score its inputs, shape the answer."""
