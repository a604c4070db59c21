"""The built-in models: the extractive answerer and the embeddings."""
