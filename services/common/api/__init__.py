"""The request and response bodies of the REST API, which services and the client share."""
