"""Which commands does `winnow` have?

Each command imports what it needs inside its function: Prefect, Ray and torch take seconds to import, and `why` needs
none of them.
"""

from __future__ import annotations

import sys

import typer

from flows.cli import audit, corpus, model, start

app = typer.Typer(
    name="winnow",
    help="Build the training corpus of HRM-Text, train the model on it, and trace every row.",
    no_args_is_help=True,
    # Help is an answer too: plain text in a pipe. Loading rich's Markdown takes 60 ms.
    rich_markup_mode="markdown" if sys.stdout.isatty() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    start.init,
    corpus.build,
    corpus.plan,
    corpus.scan,
    corpus.sources,
    start.schema,
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
