"""The routes of the ingest API (design section 6)."""
