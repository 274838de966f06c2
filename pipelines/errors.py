"""The exceptions that Winnow raises on purpose.

    ValueError
    └── WinnowError              a mistake of the user: the command exits with code 2
        ├── RecipeError          a recipe's file, key or value
        ├── InputError           an input that cannot be read: missing, truncated, without a column
        │   ├── MissingColumn    a file without a column that is read
        │   ├── RecordError      one bad record, with `on_bad_row: fail`
        │   └── Unreachable      the place of an input: no network, no permission
        └── RunError             a run, step or row that is not under this root
            └── Damaged          a file that Winnow wrote below a root, and cannot read any more; a CheckFailed too
    RuntimeError
    └── CheckFailed              a run or a check failed: the command exits with code 1
        └── NoRowLeft            a recipe drops every row
            └── NothingNew       every row is in the earlier runs of `against`

A message names the file, key or row, and says what to do. A bug in Winnow is an AssertionError.
"""

from __future__ import annotations

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


class NoRowLeft(CheckFailed):
    """A recipe drops every row of its sources."""


class NothingNew(NoRowLeft):
    """Every row of a run is in the earlier runs that it is built against. A scheduled run has completed, then."""


class Damaged(RunError, CheckFailed):
    """A file of a root that is cut, changed, of other types than were written, or may not be read."""


class DamageWarning(UserWarning):
    """A damaged file that was left out, since nobody asked for it."""


UNREACHED = "cannot be reached"

RESUME = "the same command carries on"


MAX_NAMES = 60
"""Known names that a message lists."""

MAX_NAME = 80
"""Characters of a name that a message shows."""


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is most likely a misspelling of: one edit for every three of its letters at most."""
    most = len(word) / 3
    similar = (name for name in known if abs(len(name) - len(word)) <= most)  # others need more edits
    distances = ((edits(word.casefold(), name.casefold()), name) for name in similar)
    distance, name = min(distances, default=(len(word) + 1, ""))
    return name if distance <= most else None


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint at the end of a message about an unknown word: the word that it most likely means, or all known ones."""
    names = sorted(known)
    meant = near(word, names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"did you mean {meant!r}?" if meant else f"known: {', '.join(map(short, names[:MAX_NAMES]))}{more}"


def short(name: str) -> str:
    """A name as a message shows it: a column or key may be as long as its file."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]} …"


def edits(word: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour (optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        before, above, row = row, before, [i]
        for j, target in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != target)))
            if above and i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == target:
                row[j] = min(row[j], above[j - 2] + 1)
    return row[-1]
