"""From a checked search to live hits, best first."""
