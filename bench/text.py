"""Text of others on a line of ours: nothing in it breaks the line, moves the cursor, or fills the screen."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

FEW = 5  # numbers in a row that are still told one by one
LONGEST = 400  # characters of a word; paths are rarely longer
PLAINLY = "ness_bench_plain"  # the handler of what an encoding lacks, for streams and for `plainly`
PLAIN = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "↑": "(up)", "↓": "(down)",
    "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "†": "(+)", "‡": "(++)", "§": "(s)", "¶": "(p)", "°": "deg",
}  # fmt: skip


def printable(text: str) -> str:
    """Return a text with escapes, such as \\n and \\x1b, in the place of what cannot be printed on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def for_terminal(text: str) -> str:
    """Return a text on one line for a terminal: printable, and without the rest of words that go on and on."""
    return re.sub(rf"\S{{{LONGEST},}}", _cut, printable(text))


def _cut(word: re.Match[str]) -> str:
    left_out = len(word[0]) - LONGEST // 2
    return f"{word[0][: LONGEST // 4]}[{left_out} characters left out]{word[0][-LONGEST // 4 :]}"


def plainly(text: str, encoding: str) -> str:
    """Return a text in the signs that an encoding has: as a terminal will show it, and so as wide as it will be."""
    return text.encode(encoding, PLAINLY).decode(encoding)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


codecs.register_error(PLAINLY, _replace)


def _plain(c: str) -> str:
    """Return a sign in ASCII: the one it looks like, the letter under its accents, or its escape."""
    letters = "".join(part for part in unicodedata.normalize("NFKD", c) if part.isascii())
    return PLAIN.get(c) or (letters if c.isalpha() else "") or c.encode("unicode_escape").decode()


def spans(numbers: Iterable[int], dash: str) -> list[str]:
    """Return whole numbers in words: more than FEW in a row as their ends with a dash between, others one by one."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    words: list[str] = []
    for row in rows:
        words += [f"{row[0]}{dash}{row[-1]}"] if len(row) > FEW else map(str, row)
    return words


def counted(number: object, what: str) -> str:
    """Return a number of things in words: 1 cell, 2 cells. What a file holds in a number's place stands as it is."""
    shown = f"{number:,}" if isinstance(number, int) else str(number)
    return f"{shown} {what}" if number == 1 else f"{shown} {what}s"
