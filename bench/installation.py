"""Where an installation keeps what it brings, and how it is started: from a checkout, or from a wheel."""

from __future__ import annotations

from pathlib import Path

from bench.core import UserError

SCRIPT = "run_bench.py"
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of the checkout; in a wheel, the folder of installed packages


def is_checkout() -> bool:
    """Return whether the library stands in a checkout, with its script beside it."""
    return (ROOT / SCRIPT).exists()


def program() -> str:
    """Return what to type: the script in a checkout, the command that an installation brings elsewhere."""
    return f"python {SCRIPT}" if is_checkout() else "ness-bench"


def results() -> Path:
    """Return the folder of results unless told otherwise: the checkout's, or one in the current folder."""
    return ROOT / "results" if is_checkout() else Path("results")


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
