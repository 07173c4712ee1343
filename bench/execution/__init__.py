"""From planned cells to results on disk, one after the other or many at a time."""
