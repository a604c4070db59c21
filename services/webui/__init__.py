"""A page that uses the REST API only."""
