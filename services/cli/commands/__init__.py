"""The commands of `zhiwen`, one module for each subject."""
