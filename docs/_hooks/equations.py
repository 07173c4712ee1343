"""Equations become MathML when the site is built: browsers show it without a script, a font or a network."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(text: str, **_: Any) -> str:
    """Return a page whose equations are MathML. Called by MkDocs for every page."""
    text = INLINE.sub(lambda found: convert(html.unescape(found[1]).strip()), text)
    return DISPLAY.sub(_block, text)


def _block(found: re.Match[str]) -> str:
    equation = convert(html.unescape(found[1]).strip(), display="block")
    return f'<div class="arithmatex">{equation}</div>'
