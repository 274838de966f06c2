"""Which commands does `winnow` have?

Each command imports what it needs inside its function: Prefect, Ray and torch take seconds to import, and `why` needs
none of them.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.cli import (
    ablate,
    analyze,
    audit,
    calibrate,
    corpus,
    forget,
    harness,
    inventory,
    model,
    score,
    scores,
    serve,
    start,
    ui,
    verify,
)

DISTRIBUTION = "winnow-corpus"
"""The name under which Winnow is installed."""

HELP = frozenset({"-h", "--help"})

app = typer.Typer(
    name="winnow",
    help="Build the training corpus of HRM-Text, train the model on it, and trace every row.",
    no_args_is_help=True,
    # Help is an answer too: plain text in a pipe. Loading rich's Markdown takes 60 ms. Errors quote what a user
    # typed, as names of files: they are plain text.
    rich_markup_mode="markdown" if sys.stdout.isatty() and not HELP.isdisjoint(sys.argv[1:] or HELP) else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": sorted(HELP)},
)

for command in (
    start.init,
    corpus.build,
    corpus.check,
    corpus.plan,
    corpus.scan,
    corpus.sources,
    start.schema,
    inventory.stages,
    inventory.runs,
    analyze.analyze,
    audit.why,
    audit.similar,
    audit.clusters,
    audit.diff,
    audit.report,
    ui.ui,
    calibrate.calibrate,
    verify.verify,
    forget.forget,
    forget.gc,
    corpus.export,
    model.train,
    model.evaluate,
    model.rescore,
    scores.compare,
    scores.perplexity,
    ablate.ablate,
    model.generate,
    serve.serve,
    audit.trace,
    inventory.warm,
):
    app.command()(command)
app.add_typer(score.GROUP)
app.command(name="lm-eval", context_settings=harness.PASS_ON)(harness.lm_eval)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    import importlib.metadata
    import platform

    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        version = "from a folder (not installed)"
    typer.echo(f"winnow {version}, Python {platform.python_version()}")
    raise typer.Exit


@app.callback()
def winnow(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Build the training corpus of HRM-Text, train the model on it, and trace every row."""
