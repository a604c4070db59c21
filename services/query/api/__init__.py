"""The routes of the query API, one file each, and the application that serves them."""
