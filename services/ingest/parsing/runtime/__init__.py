"""The parser children: a pool of sandboxed processes that read documents."""
