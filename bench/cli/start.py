"""The command `ness-bench` of an installation. In a checkout, `run_bench.py` starts the same without it."""

from __future__ import annotations

import sys


def main() -> int:
    """Start the command line. Where a module of the suite is gone, say so in a line and return 2: `demand_whole`, which
    looks for all files, cannot look before it is imported."""
    try:
        from bench.cli.main import main as command_line
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "bench":
            raise
        print(f"ness-bench: this installation is damaged, {error}: install ness-bench again", file=sys.stderr)
        return 2
    return command_line()
