"""The web page. It uses the REST API only."""
