"""vLLM: one server for one model."""
