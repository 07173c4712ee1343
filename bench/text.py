"""Text of others on a line of ours: nothing in it breaks the line, moves the cursor, or fills the screen."""

from __future__ import annotations

import re

LONGEST = 400  # characters of a word; paths are rarely longer


def printable(text: str) -> str:
    """Return a text with escapes, such as \\n and \\x1b, in the place of what cannot be printed on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Return a text on one line for a terminal: printable, and without the rest of words that go on and on."""
    return re.sub(rf"\S{{{LONGEST},}}", _cut, printable(text))


def _cut(word: re.Match[str]) -> str:
    left_out = len(word[0]) - LONGEST // 2
    return f"{word[0][: LONGEST // 4]}[{left_out} characters left out]{word[0][-LONGEST // 4 :]}"
