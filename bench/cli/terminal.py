"""A terminal that cannot show every sign gets the nearest it can: no table is lost for a ±."""

from __future__ import annotations

import codecs
import unicodedata
from typing import TextIO

PLAIN = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "…": "...",
    "‘": "'", "’": "'", "“": '"', "”": '"', "†": "(+)", "‡": "(++)", "§": "(s)", "¶": "(p)", "°": "deg",
}  # fmt: skip


def speak_plainly(*streams: TextIO) -> None:
    """Have streams write, in the place of what their encoding lacks, something that it has."""
    codecs.register_error("ness_bench_plain", _plainly)
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # a notebook's cannot be told, and needs not be
            stream.reconfigure(errors="ness_bench_plain")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(c: str) -> str:
    """Return a sign in ASCII: the one it looks like, the letter under its accents, or its escape."""
    letters = "".join(part for part in unicodedata.normalize("NFKD", c) if part.isascii())
    return PLAIN.get(c) or (letters if c.isalpha() else "") or c.encode("unicode_escape").decode()
