"""From a checked question to an answer that cites its sources."""
