"""What methods cost in time, memory and arithmetic, measured side by side in one run."""
