"""Builds and measures the data that the services ship. It is not installed with them."""
