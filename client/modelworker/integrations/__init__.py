"""The client in the call forms of other projects, one module each."""
