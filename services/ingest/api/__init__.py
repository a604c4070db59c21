"""The ingest API: the application and its routes, a file for each kind of thing."""
