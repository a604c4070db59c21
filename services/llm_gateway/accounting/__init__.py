"""Limits, used tokens and logged conversations of the requests."""
