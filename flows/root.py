"""Which root is meant where none is given? That of WINNOW_ROOT, else a folder of the working directory."""

from __future__ import annotations

import os

DEFAULT_ROOT = "./winnow-data"
"""The root without WINNOW_ROOT."""


def root_or_default(root: str | None) -> str:
    """The root given; else WINNOW_ROOT of this process; else DEFAULT_ROOT."""
    return root or os.environ.get("WINNOW_ROOT") or DEFAULT_ROOT
