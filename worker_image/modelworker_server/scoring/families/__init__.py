"""The families: one value for each, its parts, and telling which one a checkpoint is of."""
