"""The ingest service: it takes uploads and turns them into indexed chunks."""
