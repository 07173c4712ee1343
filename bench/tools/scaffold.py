"""The verb `new`: a working file to start from, with its test, in the current folder."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.catalog import registry
from bench.catalog.registry import Kind
from bench.config import nearest
from bench.core import UserError

TEMPLATES = Path(__file__).resolve().parent / "templates"
KINDS: dict[str, Kind] = {"method": "Method", "benchmark": "Benchmark"}


def add_options(add: Callable[..., Any]) -> None:
    """What, and its name."""
    add("kind", metavar="KIND", help="method or benchmark")
    add("name", metavar="NAME", help="an identifier: NAME.py and test_NAME.py are written to the current folder")


def main(args: argparse.Namespace) -> list[str]:
    """Write the files. Returns what to tell."""
    if args.kind not in KINDS:
        raise nearest("kind", args.kind, KINDS)
    _demand_free(args.kind, args.name, args.plugin)
    files = render(args.kind, args.name)
    for file in files:
        if Path(file).exists():
            raise UserError(f"{file} is there already: choose another name")
    try:
        for file, text in files.items():
            Path(file).write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
    use = f"--methods {args.name}" if args.kind == "method" else f"--bench {args.name}"
    return [
        f"wrote {', '.join(files)}",
        f"check it: python run_bench.py check {args.name}.py, or pytest test_{args.name}.py",
        f"run it:   python run_bench.py --plugin {args.name}.py {use}",
    ]


def render(kind: str, name: str) -> dict[str, str]:
    """The files of a new method or benchmark: name -> text."""
    texts = {f"{name}{path.suffix}": path.read_text() for path in sorted(TEMPLATES.glob(f"{kind}.*"))}
    class_name = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    if keyword.iskeyword(class_name) or re.search(rf"\b{class_name}\b", texts[f"{name}.py"]):
        class_name += kind.title()  # `class Tensor(Method)` would hide what the file imports
    own = {f"my_{kind}": name, f"My{kind.title()}": class_name}
    files = {file: re.sub("|".join(own), lambda found: own[found[0]], text) for file, text in texts.items()}
    checks = f"{kind}_checks"
    test = (TEMPLATES / "test.py.txt").read_text()
    return files | {f"test_{name}.py": test.replace("my_name", name).replace("KIND", kind).replace("CHECKS", checks, 1)}


def _demand_free(kind: str, name: str, plugins: list[Path]) -> None:
    """Raise `UserError` unless a name can be a file's, a class's and nobody else's."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name.strip("_0123456789") or name == "all":
        raise UserError(f"'{name}' cannot name a {kind}: use letters, numbers and _, as in my_idea")
    if taken := registry.available(KINDS[kind], plugins).get(name):
        raise UserError(f"the name '{name}' is taken by {taken}")
    if not Path(f"{name}.py").exists() and importlib.util.find_spec(name):
        raise UserError(f"the name '{name}' is taken by a Python module, which {name}.py would hide")
