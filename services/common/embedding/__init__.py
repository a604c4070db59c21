"""Turns texts into vectors: one module for each embedder, and `registry`, which finds the embedder of a model."""
