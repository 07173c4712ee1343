"""What methods and benchmarks there are, and what a request means: names become classes, a request a plan."""
