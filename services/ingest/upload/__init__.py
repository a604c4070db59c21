"""Uploads: from the body of a request to a document in the ledger."""
