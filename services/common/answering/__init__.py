"""What is decided about an answer, without any input or output: how sure it is, and what its marks rest on."""
