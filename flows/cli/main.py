"""How does `winnow` start and end? The list of commands, the exit codes, and error messages.

Exit codes: 0 success; 1 the run or a check failed; 2 a mistake of the user's (the message names the file, line or key
and how to fix it); 130 stopped by Ctrl-C. With `--json`, stdout has one JSON object and nothing else. Everything else
is printed on stderr.

Each command imports what it needs inside its function: Prefect, Ray and torch take seconds to import, and `why` needs
none of them.
"""

from __future__ import annotations

import os
import sys

import typer

from flows.cli import audit, corpus, model
from flows.cli.session import prepare_process

app = typer.Typer(
    name="winnow",
    help="Build the training corpus of HRM-Text, train the model on it, and trace every row.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    corpus.build,
    corpus.plan,
    corpus.scan,
    corpus.sources,
    audit.why,
    audit.similar,
    audit.clusters,
    audit.diff,
    audit.report,
    audit.verify,
    corpus.export,
    model.train,
    model.evaluate,
    model.generate,
    audit.trace,
):
    app.command()(command)


def main() -> None:
    """Run the command, and turn exceptions into exit codes and messages."""
    prepare_process()
    from pipelines.errors import RESUME, WinnowError

    try:
        app()
    except (WinnowError, FileNotFoundError) as error:
        _fail(2, error)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        _fail(1, error)
    except KeyboardInterrupt:
        print(f"stopped; {RESUME}", file=sys.stderr)
        sys.exit(130)


def _fail(code: int, error: BaseException) -> None:
    """Print the error and exit. With WINNOW_DEBUG=1 the traceback is printed too."""
    if os.environ.get("WINNOW_DEBUG"):
        raise error
    print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
