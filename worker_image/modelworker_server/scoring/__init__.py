"""How reward models score: from texts to tokens and positions, and from numbers to scores."""
