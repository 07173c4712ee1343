"""Networks and their algebra: layers, Grams, subspaces, adapters."""
