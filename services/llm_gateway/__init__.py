"""One OpenAI-compatible face over many model servers."""
