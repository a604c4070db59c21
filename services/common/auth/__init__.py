"""API keys: who sent a request, and what it may do."""
