"""Independent seeds by name, so that no source of randomness can shift another."""

from __future__ import annotations

import hashlib


def derive(*names: object) -> int:
    """Return a seed in [0, 2**63) that depends on `names` alone, in order."""
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
