#!/usr/bin/env python3
"""The command line of NESS-Bench, in a checkout. An installation has it as `ness-bench`."""

import sys

from bench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
