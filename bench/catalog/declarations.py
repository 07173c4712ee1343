"""What a method declares, read without PyTorch: its settings, its protocols, and where it applies.

A plan needs a method's `Config`, its flags and the hooks in PLANNED. The file that holds them imports torch, for the
other hooks, which takes seconds. So the file is run here without the bodies of those hooks, and without the imports
and helpers that nothing else in it names. What is left is the author's own code: nothing is guessed, and nothing is
stored that could be out of date. Where it does not run so, the answer is None, and the whole file is to be imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

PLANNED = ("unsupported", "old_data")  # the hooks that a plan calls
IMPORTS = (ast.Import, ast.ImportFrom)


def declared_class(path: Path, name: str) -> type | None:
    """Return the class `name` of the file at `path`, with those of its functions that a plan calls.

    Return None where the file belongs to a package, imports what is not there, or does not run in part.
    """
    tree = ast.parse(path.read_bytes())
    if (path.parent / "__init__.py").exists() or not all(map(_is_there, _modules(tree))):
        return None
    module = ModuleType(f"ness_bench_outline_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up here
    try:
        exec(compile(outline(tree, name), str(path), "exec", dont_inherit=True), vars(module))
        cls: type = vars(module)[name]
        get_type_hints(vars(cls).get("Config", cls))  # a hint in quotes may name what was left out
    except (Exception, SystemExit):  # importing the whole file will tell what is wrong
        del sys.modules[module.__name__]
        return None
    return cls


def outline(tree: ast.Module, name: str) -> ast.Module:
    """Take out of the module what only training needs, and return it.

    That is the bodies of functions of the class `name` that no plan calls, annotations of its attributes, and the
    imports, functions and classes that are then named nowhere.
    """
    [cls] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    cls.body = list(map(_without_annotation, cls.body))
    hooks = [node for node in cls.body if isinstance(node, ast.FunctionDef)]
    helpers = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node is not cls]
    used = _reached(tree, cls, hooks, helpers)
    for hook in hooks:
        if hook.name not in used:
            _hollow(hook)
    spare: list[ast.stmt] = [node for node in helpers if node.name not in used]
    spare += [node for node in tree.body if isinstance(node, IMPORTS) and not used.intersection(_bound(node))]
    tree.body = [node for node in tree.body if node not in spare]
    return tree


def _reached(
    tree: ast.Module, cls: ast.ClassDef, hooks: Sequence[ast.FunctionDef], helpers: Sequence[ast.stmt]
) -> set[str]:
    """Return the names, dotted ones part by part, that planning may meet. Too many do no harm."""
    certain: list[ast.AST] = [node for node in tree.body if node is not cls and node not in helpers]
    certain = [node for node in certain if not isinstance(node, IMPORTS)]
    certain += [*cls.bases, *cls.keywords, *cls.decorator_list]
    certain += [node for node in cls.body if node not in hooks]
    for hook in hooks:
        defaults = [*hook.args.defaults, *filter(None, hook.args.kw_defaults)]
        certain += [*filter(_stays, hook.decorator_list), *defaults]
    used = {*PLANNED, *_names(certain)}
    waiting = [*hooks, *helpers]
    while found := [node for node in waiting if getattr(node, "name", "") in used]:
        waiting = [node for node in waiting if node not in found]
        used |= _names(found)
    return used


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    parts = [part for node in nodes for part in ast.walk(node)]
    plain = {part.id for part in parts if isinstance(part, ast.Name)}
    return plain | {part.attr for part in parts if isinstance(part, ast.Attribute)}


def _stays(decorator: ast.expr) -> bool:
    """Return whether a decorator is none of torch's, which are for training alone."""
    return not any(isinstance(part, ast.Name) and part.id == "torch" for part in ast.walk(decorator))


def _hollow(hook: ast.FunctionDef) -> None:
    """Leave a function its signature alone."""
    hook.decorator_list = list(filter(_stays, hook.decorator_list))
    hook.body = ast.parse("raise NotImplementedError('the whole file was not imported')").body
    hook.returns = None
    arguments = hook.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None


def _without_annotation(node: ast.stmt) -> ast.stmt:
    """Return what assigns to an attribute of the class without its annotation, which may name what training needs."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign([node.target], node.value), node)
    return node


def _bound(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the names that an import binds. Those of `*`, and what `__future__` changes, count as used."""
    names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    everywhere = "*" in names or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    return {*names, PLANNED[0]} if everywhere else names


def _modules(tree: ast.Module) -> set[str]:
    """Return the modules that a file imports at its top; of libraries, the package alone."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return {name if name.startswith("bench.") else name.partition(".")[0] for name in found}


def _is_there(module: str) -> bool:
    """Return whether an import would find a module. To look inside a package would be to import it."""
    return module in sys.modules or (bool(module) and importlib.util.find_spec(module) is not None)
