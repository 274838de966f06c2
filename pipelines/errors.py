"""What can go wrong through no fault of ours, and what the user can do about it.

    WinnowError(ValueError)      the user's mistake: the command ends with exit code 2
    ├── RecipeError              a recipe's key, value or file
    ├── InputError               a source that cannot be read: missing, truncated, a column that is not there
    │   ├── RecordError          one record, where the recipe says `on_bad_row: fail`
    │   └── Unreachable          the place where it should lie: no network, no permission
    └── RunError                 a run, step or row that does not exist under this root
    CheckFailed(RuntimeError)    a run or a check failed: exit code 1

A message names the file, key or row and says how to mend it. Our own mistakes are asserts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WinnowError(ValueError):
    """The user's mistake."""


class RecipeError(WinnowError):
    """A recipe's key, value or file."""


class InputError(WinnowError):
    """A source that cannot be read."""


class RecordError(InputError):
    """One record that cannot be used, where the recipe says `on_bad_row: fail`."""


class Unreachable(InputError):
    """The place where a source should lie cannot be reached."""


class RunError(WinnowError):
    """A run, step or row that does not exist under this root."""


class CheckFailed(RuntimeError):
    """A run or a check failed."""


UNREACHED = "cannot be reached"

RESUME = "run the same command again, it resumes from the finished shards"
"""The mend for whatever stopped a run from outside."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The part of a message that offers the nearest known word, or all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
