"""The door before an engine's own HTTP application."""
