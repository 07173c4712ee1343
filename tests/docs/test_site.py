"""The site as it is built: nothing in it comes from elsewhere, and what is made from the code is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, ROOT

from bench.catalog.catalog import Catalog
from bench.cli.main import COMMANDS

pytest.importorskip("mkdocs", reason="the docs extra is not installed")
pytest.importorskip("latex2mathml", reason="the docs extra is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_needs_no_network(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) >= len(list(DOCS.rglob("*.md")))
    loaded = r'<(?:script|img|iframe|source)\b[^>]*\ssrc="(?:https?:)?//|<link\b[^>]*\shref="(?:https?:)?//'
    assert not [path for path, text in pages.items() if re.search(loaded, text)]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [style for style in styles if re.search(r"url\([\"']?(?:https?:)?//", style)]


def test_equations_are_shown_without_a_script(site: Path) -> None:
    page = (site / "explanation" / "methods.html").read_text(encoding="utf-8")
    assert page.count("<math") > 40
    assert "\\(" not in page and "\\[" not in page and "\\frac" not in page


def test_the_reference_is_made_from_the_code(site: Path) -> None:
    commands = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert {name for name in COMMANDS if f'<h2 id="{name}">' not in commands} == set()
    assert "--gpus-per-cell" in commands and "<!-- made" not in commands
    settings = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert {name for name in Catalog().available("Method") if f'<h3 id="{name}">' not in settings} == set()
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="bench.training.method.Method.penalty"' in python
