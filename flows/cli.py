"""The `winnow` command.

Exit codes: 0 done; 1 the run or a check failed; 2 the user's mistake (the message names file, line or key, and the mend).
With `--json`, stdout holds one JSON object and nothing else; what a person reads goes to stderr.

What a command needs is imported inside it: Prefect, Ray and torch each take seconds to load, and `winnow why` needs none.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any, cast

import typer

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Our own words say what went wrong; Prefect's log would add a traceback to each.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}
"""Environment that makes Prefect, Ray and friends keep quiet on a terminal; a variable that the user has set stays."""

app = typer.Typer(
    name="winnow",
    help="Build the training corpus of HRM-Text, train the model on it, and say why any row is gone.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Root = Annotated[str, typer.Option("--root", envvar="WINNOW_ROOT", help="Folder or object-store URL that holds steps and runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
RunName = Annotated[str, typer.Argument(help="A run's id, a unique beginning of it, or `latest`.")]
ROOT = "./winnow-data"


def out(value: Any) -> None:
    """Print the JSON answer."""
    typer.echo(json.dumps(value, ensure_ascii=False))


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="The recipe's YAML file.")],
    root: Root = ROOT,
    engine: Annotated[str, typer.Option(envvar="WINNOW_ENGINE", help="`ray` (this machine's own, or the cluster of RAY_ADDRESS) or `local`.")] = "ray",
    workers: Annotated[int | None, typer.Option(envvar="WINNOW_WORKERS", min=1, help="Shards at a time. Default: all processors.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override one key: `path.to.key=value`. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Build a corpus: sources to packed tokens. Steps that are there already are reused.

    Example: `winnow build pipelines/recipes/demo.yaml --set near_duplicates.threshold=0.7`
    """
    from pipelines.errors import WinnowError, nearest

    if engine not in ("ray", "local"):
        raise WinnowError(f"--engine {engine}: {nearest(engine, ['ray', 'local'])}")
    from pipelines.recipe import load

    load(recipe, tuple(settings or ()))  # a mistake in the recipe is told before anything is started
    from flows.console import Console, count
    from flows.curate import CONSOLE, EngineName, curate_flow

    console = Console(quiet=as_json and not sys.stderr.isatty())
    CONSOLE.set(console)
    answer = curate_flow(recipe=str(recipe), root=root, engine=cast(EngineName, engine), workers=workers, settings=tuple(settings or ()))
    if as_json:
        out(answer)
        return
    share = answer["rows_kept"] / max(answer["rows_in"], 1)
    console.say(f"\n[bold]{answer['run']}[/bold]: {count(answer['rows_kept'])} of {count(answer['rows_in'])} rows kept ({share:.1%})")
    console.say(f"  report   {answer['report']}")
    console.say(f"  next     winnow train {answer['run']} --root {root}")


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="The recipe's YAML file.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override one key: `path.to.key=value`. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a build would read and do, without doing it.

    Example: `winnow plan pipelines/recipes/hrm_text_mini.yaml`
    """
    from flows.console import Console, count
    from pipelines.plan import plan as make_plan
    from pipelines.recipe import load

    made = make_plan(load(recipe, tuple(settings or ())))
    if as_json:
        out(made)
        return
    console = Console()
    for source in made["inputs"]:
        state = "[red]missing[/red]" if source["missing"] else f"{count(source['bytes']):>14} bytes" if source["bytes"] is not None else f"{count(source['rows']):>14} rows "
        console.say(f"  {source['source']:<28}{state}  {source['file']}")
    console.say("")
    for line in made["words"]:
        console.say(f"  {line}")


@app.command()
def why(
    row: Annotated[str, typer.Argument(help="The row's id: <source>/<file>/<row>.")],
    run: Annotated[str, typer.Option("--run", help="A run's id, a unique beginning of it, or `latest`.")] = "latest",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Say what became of a row: which steps kept it, which dropped it, why, and on what evidence.

    Example: `winnow why gsm8k_train/gsm8k_train/17`
    """
    from flows.console import Console
    from pipelines import lineage

    fate = lineage.why(lineage.open_run(root, run), row)
    if as_json:
        out(fate)
        return
    console = Console()
    for entry in fate["history"]:
        reason = f"  [red]{entry['stage']}/{entry['reason']}[/red]  {json.dumps(entry['evidence'], ensure_ascii=False)}" if entry["verdict"] == "dropped" else ""
        console.say(f"  {entry['step']:<20}{entry['verdict']}{reason}")
    console.say(f"\n[bold]instruction[/bold] ({fate['condition']})\n{shorten(fate['instruction'])}\n\n[bold]response[/bold]\n{shorten(fate['response'])}")


def shorten(text: str, limit: int = 2000) -> str:
    """The beginning of a text, with a word on how much more there is; square brackets are not markup."""
    from rich.markup import escape

    return escape(text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} characters more)")


@app.command()
def diff(left: RunName, right: RunName, root: Root = ROOT, as_json: Json = False) -> None:
    """Say what changed between two runs: settings, reasons, and the rows that only one corpus has.

    Example: `winnow diff demo-1a2b3c4d demo-5e6f7a8b`
    """
    from flows.console import Console, count
    from pipelines import lineage

    changes = lineage.diff(lineage.open_run(root, left), lineage.open_run(root, right))
    if as_json:
        out(changes)
        return
    console = Console()
    for path, (before, after) in changes["settings"].items():
        console.say(f"  {path}: {shorten(json.dumps(before), 200)} -> {shorten(json.dumps(after), 200)}")
    for step in changes["steps"]:
        kept = " -> ".join("-" if rows is None else count(rows) for rows in step["rows_kept"])
        console.say(f"  {step['name']:<20}{'same' if step['same'] else kept}")
        for reason, (before, after) in step["dropped"].items():
            console.say(f"      {reason:<40}{count(before)} -> {count(after)}")
    for run, side in zip(changes["runs"], (changes["only_left"], changes["only_right"]), strict=True):
        console.say(f"  only in {run}: {count(side['rows'])} rows  {' '.join(side['examples'][:3])}")


@app.command()
def report(run: RunName = "latest", root: Root = ROOT, as_json: Json = False) -> None:
    """Write a run's report.html anew and say where it is.

    Example: `winnow report latest`
    """
    from pipelines import lineage
    from pipelines.report import write_report

    path = write_report(lineage.open_run(root, run))
    out({"report": path}) if as_json else typer.echo(path)


@app.command()
def verify(run: RunName = "latest", root: Root = ROOT, as_json: Json = False) -> None:
    """Check a run from its files: every digest, every count, every id once.

    Example: `winnow verify latest`
    """
    from pipelines import lineage

    checked = lineage.verify(lineage.open_run(root, run))
    out(checked) if as_json else typer.echo("verified: {steps} steps, {files} files, {rows} rows".format(**checked))


@app.command()
def sources(as_json: Json = False) -> None:
    """List the data sets that Winnow can read: licence, home, conditions, and the evaluation sets they overlap.

    Example: `winnow sources`
    """
    from pipelines.sources import SOURCES

    rows = [
        {"name": name, "title": source.title, "licence": source.licence, "home": source.home, "revision": source.revision, "condition": source.condition, "overlaps": list(source.overlaps)}
        for name, source in SOURCES.items()
    ]
    if as_json:
        out({"sources": rows})
        return
    for row in rows:
        overlaps = f"  overlaps {', '.join(row['overlaps'])}" if row["overlaps"] else ""
        typer.echo(f"{row['name']:<24}{row['condition']:<16}{row['licence']:<22}{row['title']}{overlaps}")


def main() -> None:
    """Run the command and turn exceptions into exit codes and words."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from pipelines.errors import WinnowError

    try:
        app()
    except WinnowError as error:
        fail(2, error)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        fail(1, error)
    except KeyboardInterrupt:
        print("stopped; run the same command again, it resumes from the finished shards", file=sys.stderr)
        sys.exit(130)


def fail(code: int, error: BaseException) -> None:
    """Say what went wrong and leave. WINNOW_DEBUG=1 adds the traceback."""
    if os.environ.get("WINNOW_DEBUG"):
        raise error
    print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
