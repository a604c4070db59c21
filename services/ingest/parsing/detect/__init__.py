"""Detection: the media type of a file, the contents of a container, and the encoding of a text."""
