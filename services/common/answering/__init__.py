"""What an answer is made of: the quotes that carry it, and how sure it is. Pure."""
