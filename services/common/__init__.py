"""The code that ingest, query and the gateway share. It imports no service."""
