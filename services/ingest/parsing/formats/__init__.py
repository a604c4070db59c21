"""The readers: one module for each family of file formats, listed in `registry`."""
