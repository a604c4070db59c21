"""What ingest, query and the gateway must agree on. Imports no service."""
