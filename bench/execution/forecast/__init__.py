"""How long a grid may take: from results of its kind, or from timed steps."""
