"""The model servers: choosing one, calling it, and handling its failures."""
