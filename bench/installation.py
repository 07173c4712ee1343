"""Where an installation keeps what it brings, and how it is started: from a checkout, or from a wheel."""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from bench.core import UserError

NAME = "ness-bench"
SCRIPT = "run_bench.py"
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of the checkout; in a wheel, the folder of installed packages


def demand_system() -> None:
    """Raise `UserError` on Windows: results and data are kept whole by locks and renames as only POSIX has them."""
    if sys.platform == "win32":
        raise UserError("NESS-Bench runs on Linux and macOS: on Windows, install and run it inside WSL")


def is_checkout() -> bool:
    """Return whether the library stands in a checkout, with its script beside it."""
    return (ROOT / SCRIPT).exists()


def program() -> str:
    """Return what to type: the script in a checkout, the command that an installation brings elsewhere."""
    return f"python {SCRIPT}" if is_checkout() else NAME


def release() -> str:
    """Return the version: that of the checkout, or of what was installed."""
    if is_checkout():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])
    return metadata.version(NAME)


def results() -> Path:
    """Return the folder of results unless told otherwise: `results` in the working folder, as data is in `data`."""
    return Path("results")


def published() -> Path | None:
    """Return the results that come with a checkout; None where there are none."""
    folder = ROOT / "results" / "published"
    return folder if is_checkout() and folder.is_dir() else None


def extensions(name: str) -> Path:
    """Return the folder `methods` or `datasets`: beside the library, or inside it where it was installed.

    Raises `UserError` where there is none.
    """
    place = PACKAGE / name
    if not place.is_dir():
        place = PACKAGE.parent / name
    if not place.is_dir():
        raise UserError(f"this installation is damaged, it has no folder {name}: install ness-bench again")
    return place
