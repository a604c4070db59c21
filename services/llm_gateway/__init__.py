"""One OpenAI-compatible face over many model servers, and a built-in answerer where there is none."""
