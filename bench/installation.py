"""Where an installation keeps what it brings, and how it is started: from a checkout, or from a wheel."""

from __future__ import annotations

import csv
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from bench.core import UserError
from bench.text import counted

NAME = "ness-bench"
SCRIPT = "run_bench.py"
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of the checkout; in a wheel, the folder of installed packages


def demand_system() -> None:
    """Raise `UserError` on Windows: results and data are kept whole by locks and renames as only POSIX has them."""
    if sys.platform == "win32":
        raise UserError("NESS-Bench runs on Linux and macOS: on Windows, install and run it inside WSL")


@cache
def demand_whole() -> None:
    """Raise `UserError` where a file that was installed is gone: without a recipe, say, a method would run on other
    settings, and nobody would know."""
    lost = [name for name in _recorded() if not (ROOT / name).exists()] if not is_checkout() else []
    if lost:
        more = f" and {counted(len(lost) - 1, 'other file')}" if lost[1:] else ""
        raise UserError(f"this installation is damaged, it has no {lost[0]}{more}: install {NAME} again")


def _recorded() -> list[str]:
    """Return the files that the installer wrote down as ours, but for compiled ones, which may go; none where no
    installer was at work, as on the nodes of a cluster that Ray copies the package to.

    The record is read here, for `metadata.files` keeps quiet about files that are gone from Python 3.12 on.
    """
    installed = _installed()
    record = (installed.read_text("RECORD") if installed else None) or ""
    names = [line[0] for line in csv.reader(record.splitlines()) if line]
    ours = [name for name in names if name.startswith(f"{PACKAGE.name}/") or name.endswith("/METADATA")]
    return [name for name in ours if not name.endswith(".pyc")]


def _installed() -> metadata.Distribution | None:
    """Return what the installer wrote down of this copy, and of none that lies elsewhere on the path of Python."""
    return next(iter(metadata.distributions(name=NAME, path=[str(ROOT)])), None)


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
    installed = _installed()
    if installed is None:
        raise UserError(f"this installation is damaged, it has no metadata: install {NAME} again")
    return installed.version


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
