"""The commands of `zhiwen`, one module a subject."""
