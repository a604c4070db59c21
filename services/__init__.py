"""Zhiwen 知问: answers questions from your own documents."""

__version__ = "0.1.0"
