"""`zhiwen`: the embedded default on this machine, and the command-line client of the services."""
