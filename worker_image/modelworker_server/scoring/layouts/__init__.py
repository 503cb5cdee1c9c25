"""From question and steps to tokens, and the positions that are read."""
