"""The training loop, and what a method may do in it."""
