"""For authors of methods and benchmarks: checks, templates, search, profile."""
