"""The command `zhiwen`: runs all services on this machine, and is a client of the services."""
