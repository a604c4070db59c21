"""Text and tables: normalised in one way for all readers. Pure."""
