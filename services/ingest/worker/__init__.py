"""The worker: it claims jobs, parses, chunks, embeds and indexes documents, and reconciles."""
