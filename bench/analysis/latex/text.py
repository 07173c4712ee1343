"""Plain text as LaTeX that compiles without a package for foreign scripts: symbols and Greek letters as mathematics,
the letters of western Europe as they are, others by their nearest letters or their number."""

from __future__ import annotations

import re
import string
import unicodedata

from bench.text import printable

_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "|": r"\textbar{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "§": r"\S{}", "¶": r"\P{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_SYMBOLS = {
    "±": r"\pm", "∓": r"\mp", "†": r"\dagger", "‡": r"\ddagger", "°": r"^{\circ}", "·": r"\cdot", "×": r"\times",
    "÷": r"\div", "−": "-", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "≡": r"\equiv", "∼": r"\sim",
    "∝": r"\propto", "≪": r"\ll", "≫": r"\gg", "↑": r"\uparrow", "↓": r"\downarrow", "←": r"\leftarrow",
    "→": r"\rightarrow", "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "∞": r"\infty", "∂": r"\partial",
    "∇": r"\nabla", "∑": r"\sum", "∏": r"\prod", "∫": r"\int", "√": r"\surd", "∈": r"\in", "∉": r"\notin",
    "∅": r"\emptyset", "∩": r"\cap", "∪": r"\cup", "⊂": r"\subset", "⊆": r"\subseteq", "⊕": r"\oplus",
    "⊗": r"\otimes", "⊥": r"\perp", "∥": r"\parallel", "‖": r"\|", "∧": r"\wedge", "∨": r"\vee", "∀": r"\forall",
    "∃": r"\exists", "ℓ": r"\ell", "⁄": "/",
}  # fmt: skip
_SHIFTED = {"<super>": "textsuperscript", "<sub>": "textsubscript"}
_AS_THEY_ARE = "æøåœłßıÆØÅŒŁ–—‘’“”…¡¿"  # which every LaTeX since 2018 knows, in its first encoding
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"  # from grave to cedilla: likewise
_SMALL = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau upsilon"
)
_CAPITAL = "A B Gamma Delta E Z H Theta I K Lambda M N Xi O Pi P . Sigma T Upsilon Phi X Psi Omega"
_GREEK = dict(enumerate([*_SMALL.split(), "varphi", "chi", "psi", "omega"], ord("α")))
_GREEK |= dict(enumerate(_CAPITAL.split(), ord("Α")))


def escape(text: str) -> str:
    """Return plain text as LaTeX, on one line."""
    escaped = "".join(map(_sign, printable(unicodedata.normalize("NFC", text))))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)  # a sign, not a hyphen


def _sign(c: str) -> str:
    """Return one character as LaTeX."""
    if c in _ESCAPES:
        return _ESCAPES[c]
    if c in _SYMBOLS:
        return f"${_SYMBOLS[c]}$"
    if c.isascii() or c in _AS_THEY_ARE or _is_accented(c):
        return c
    return _greek(c) or _nearest(c)


def _is_accented(c: str) -> bool:
    """Return whether a character is a Latin letter with an accent that LaTeX can set over it."""
    letter, *accents = list(unicodedata.normalize("NFD", c))
    return letter in string.ascii_letters and len(accents) == 1 and accents[0] in _ACCENTS and ord(c) < 0x180


def _greek(c: str) -> str:
    """Return a Greek letter, without its accents, as mathematics; nothing for another character."""
    letter = unicodedata.normalize("NFKD", c)[0]
    word = _GREEK.get(ord(letter), "")
    return rf"$\{word}$" if len(word) > 1 else word  # some look like Latin ones, and have no name


def _nearest(c: str) -> str:
    """Return what a character is made of, raised or lowered as it is; else its number in Unicode."""
    parts = [part for part in unicodedata.normalize("NFKD", c) if part != c and not unicodedata.combining(part)]
    text = "".join(map(_sign, parts))
    if not text:
        return f"[U+{ord(c):04X}]"
    kind = unicodedata.decomposition(c).partition(" ")[0]
    return rf"\{_SHIFTED[kind]}{{{text}}}" if kind in _SHIFTED else text
