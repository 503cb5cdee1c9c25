"""Workers whose engine is vLLM."""
