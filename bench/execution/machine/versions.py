"""Which code runs here: the library, its commit, and the packages it stands on."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib import metadata
from typing import Any

from bench import installation


@cache
def library() -> str:
    """Return the digest of every file of the library, 12 hex digits. It tells what a commit does not, such as local
    changes."""
    digest = hashlib.sha256()
    folder = installation.PACKAGE
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(folder).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def packages() -> dict[str, str | None]:
    """Return the versions of the packages that numbers come from; None for one that is not installed."""
    return {name: _version(name) for name in ("numpy", "torch", "torchvision", "scikit-learn")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def commit() -> dict[str, Any]:
    """Return the commit of this checkout and whether tracked code differs from it; empty outside a checkout."""
    if not installation.is_checkout():
        return {}  # site-packages may lie in somebody's repository

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=installation.ROOT, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()

    try:
        code = ("bench", "methods", "datasets", "run_bench.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *code))}
    except (OSError, subprocess.CalledProcessError):
        return {}
