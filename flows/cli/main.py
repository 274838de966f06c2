"""How does `winnow` start and end? The exit codes, error messages, and what a signal does.

Exit codes: 0 success; 1 the run or a check failed; 2 a mistake of the user's (the message names the file, line or key
and how to fix it); 130 stopped by Ctrl-C, 143 by SIGTERM. With `--json`, stdout has one JSON object and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from flows.cli.supervise import supervise

STORES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google")
"""Packages of clients of object stores. Their exceptions have no common base class."""


def main() -> None:
    """Run the command in a process that a signal ends at once. Nothing is imported before that process starts."""
    supervise(run)


def run() -> None:
    """Run the command in this process, and turn exceptions into exit codes and messages."""
    from flows.cli.session import leave, prepare_process

    prepare_process()
    from flows.cli.app import app
    from pipelines.errors import WinnowError

    try:
        if any(word.encode(errors="surrogateescape") != word.encode(errors="replace") for word in sys.argv[1:]):
            raise WinnowError("an argument is not UTF-8 text")
        _hide_credentials()
        app()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1 if end.code else 0)
        raise
    except (WinnowError, ImportError, FileNotFoundError) as error:
        _fail(2, error, leave)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        _fail(1, error, leave)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in STORES:
            raise
        _fail(1, error, leave)


ASKED_WITH_TEXT = ("why", "similar", "forget", "generate", "lm-eval")
"""Commands whose arguments may be any text, or are those of another tool: an address in them stays."""


def _hide_credentials() -> None:
    """Replace addresses among the arguments by public ones; the process remembers the whole ones."""
    if any("://" in word for word in sys.argv) and sys.argv[1] not in ASKED_WITH_TEXT:
        from pipelines.credentials import hidden

        sys.argv[1:] = [hidden(word) for word in sys.argv[1:]]


def _fail(code: int, error: BaseException, leave: Callable[[int], None]) -> None:
    """Print the error and exit. With WINNOW_DEBUG=1 the traceback is printed too."""
    if os.environ.get("WINNOW_DEBUG"):
        raise error
    print(f"error: {_said(error)}", file=sys.stderr)
    leave(code)
    sys.exit(code)


def _said(error: BaseException) -> str:
    """The message; of an error of the operating system, without its number and with the file first. An error of other
    code does not say where it happened: its notes do."""
    from pipelines.errors import CheckFailed, WinnowError

    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    said = str(error) or type(error).__name__
    if isinstance(error, WinnowError | CheckFailed):
        return said
    if isinstance(error, UnicodeDecodeError):  # of a row that was changed on the disk
        said += "; if a file below the root was changed, `winnow verify` names it"
    notes = getattr(error, "__notes__", ())
    return f"{said} ({', '.join(notes)})" if notes else said


if __name__ == "__main__":
    main()
