"""The doors of the query API, one file each, and the application that they are part of."""
