"""The worker: one model, loaded once, behind an OpenAI-compatible HTTP API."""
