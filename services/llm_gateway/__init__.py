"""One OpenAI-compatible API over many model servers, and a built-in answerer when there is none."""
