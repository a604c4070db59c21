"""`zhiwen`: the launcher of the embedded default and the command-line client."""
