"""Tables as LaTeX that fits the page: text, layout, and the tables themselves."""
