"""The ingest API: the application, and one module of routes for each kind of resource."""
