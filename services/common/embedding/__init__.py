"""How texts become vectors: one file an embedder, and `registry`, which finds the embedder of a model's name."""
