"""What an answer is made of, without any input or output: its quotes, how sure it is, and what its marks rest on."""
