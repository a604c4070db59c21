"""How good retrieval and refusal are: measured over HTTP against the running services (`zhiwen eval`)."""
