"""A working file to start from, with its test, in the current folder."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from bench import files
from bench.catalog.catalog import RESERVED, Catalog
from bench.catalog.discovery import Kind
from bench.config import known_as
from bench.core import UserError
from bench.installation import program

TEMPLATES = Path(__file__).resolve().parent / "templates"
LONGEST = 100  # letters of a name, so that the test's name is short enough for any file system
KINDS: dict[str, Kind] = {"method": "Method", "benchmark": "Benchmark"}


def write_extension(kind: str, name: str, catalog: Catalog) -> list[str]:
    """Write the files of a new method or benchmark to the current folder. Return what to tell. Raises `UserError`."""
    kind = known_as("kind", kind, KINDS)
    _demand_free(kind, name, catalog)
    texts = render(kind, name)
    for file in texts:
        if Path(file).exists():
            raise UserError(f"{file} is there already: choose another name")
    for file, text in texts.items():
        try:
            files.write_text(Path(file), text)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error
    use = f"--methods {name}" if kind == "method" else f"--bench {name}"
    return [
        f"wrote {', '.join(texts)}",
        f"check it: {program()} check {name}.py, or pytest test_{name}.py",
        f"run it:   {program()} --plugin {name}.py {use}",
    ]


def render(kind: str, name: str) -> dict[str, str]:
    """Return the files of a new method or benchmark: name -> text."""
    texts = {f"{name}{path.suffix}": path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob(f"{kind}.*"))}
    class_name = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    if keyword.iskeyword(class_name) or re.search(rf"\b{class_name}\b", texts[f"{name}.py"]):
        class_name += kind.title()  # `class Tensor(Method)` would hide what the file imports
    own = {f"my_{kind}": name, f"My{kind.title()}": class_name}
    placeholder = "|".join(own)
    texts = {file: re.sub(placeholder, lambda found: own[found[0]], text) for file, text in texts.items()}
    test = (TEMPLATES / "test.py.txt").read_text(encoding="utf-8")
    test = test.replace("my_name", name).replace("KIND", kind)
    texts[f"test_{name}.py"] = test.replace("CHECKS", f"{kind}_checks", 1)
    return texts


def _demand_free(kind: str, name: str, catalog: Catalog) -> None:
    """Raise `UserError` unless a name can be a file's, a class's and nobody else's."""
    usable = name.isidentifier() and not keyword.iskeyword(name) and name.strip("_0123456789")
    if not usable or name in RESERVED:
        raise UserError(f"'{name}' cannot name a {kind}: use letters, numbers and _, as in my_idea")
    if taken := catalog.available(KINDS[kind]).get(name):
        raise UserError(f"the name '{name}' is taken by {taken}")
    if len(name) > LONGEST:
        raise UserError(f"'{name}' cannot name a {kind}: it is longer than {LONGEST} letters")
    known = name in sys.modules or importlib.util.find_spec(name)
    if known and not Path(f"{name}.py").exists():
        raise UserError(f"the name '{name}' is taken by a Python module, which {name}.py would hide")
