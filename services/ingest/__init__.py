"""Uploads in, indexed chunks out."""
