"""Data sets on disk: where they come from, how their files are read, and what is there."""
