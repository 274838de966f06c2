"""The exceptions that Winnow raises on purpose.

    ValueError
    └── WinnowError              a mistake of the user: the command exits with code 2
        ├── RecipeError          a recipe's file, key or value
        ├── InputError           an input that cannot be read: missing, truncated, without a column
        │   ├── MissingColumn    a file without a column that is read
        │   ├── RecordError      one bad record, with `on_bad_row: fail`
        │   └── Unreachable      the place of an input: no network, no permission
        └── RunError             a run, step or row that is not under this root
    RuntimeError
    └── CheckFailed              a run or a check failed: the command exits with code 1

A message names the file, key or row, and says what to do. A bug in Winnow is an AssertionError.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WinnowError(ValueError):
    """A mistake of the user."""


class RecipeError(WinnowError):
    """A mistake in a recipe's file, key or value."""


class InputError(WinnowError):
    """An input that cannot be read."""


class MissingColumn(InputError):
    """A file has no such column."""


class RecordError(InputError):
    """A record that cannot be used, with `on_bad_row: fail`."""


class Unreachable(InputError):
    """The place of an input cannot be reached."""


class RunError(WinnowError):
    """A run, step or row that does not exist under this root."""


class CheckFailed(RuntimeError):
    """A run or a check failed."""


UNREACHED = "cannot be reached"

RESUME = "the same command carries on"


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint at the end of a message about an unknown word: the nearest known word, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
