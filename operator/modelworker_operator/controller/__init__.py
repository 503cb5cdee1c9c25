"""FastChat's controller protocol, served from what the operator knows of its workers."""
