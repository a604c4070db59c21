"""Measures retrieval and refusal over HTTP against the running services (`zhiwen eval`)."""
