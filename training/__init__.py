"""Trains and measures what the services ship as data. Not installed with the services."""
