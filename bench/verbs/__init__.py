"""The verbs of the command line, a file a subject: each takes the parsed options, prints, and returns the exit code."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """A line for a person; the work goes on."""
    print(f"warning: {message}", file=sys.stderr)
