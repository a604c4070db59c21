"""Questions in, hits and cited answers out."""
