"""A terminal that cannot show every sign gets the nearest it can: no table is lost for a ±."""

from __future__ import annotations

from typing import TextIO

from bench.text import PLAINLY


def speak_plainly(*streams: TextIO) -> None:
    """Have streams write, instead of what their encoding lacks, something that it has."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # a notebook's cannot be told, and needs not be
            stream.reconfigure(errors=PLAINLY)
