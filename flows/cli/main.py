"""The `winnow` command.

Exit codes: 0 done; 1 the run or a check failed; 2 the user's mistake (the message names file, line or key, and the
mend). With `--json`, stdout holds one JSON object and nothing else; what a person reads goes to stderr.

What a command needs is imported inside it: Prefect, Ray and torch each take seconds to load, and `why` needs none.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast

import typer

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Our own words say what went wrong; the log, with its tracebacks, is for the UI.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
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

Root = Annotated[
    str, typer.Option("--root", envvar="WINNOW_ROOT", help="Folder or object-store URL that holds steps and runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
RunName = Annotated[str, typer.Argument(help="A run's id, a unique beginning of it, or `latest`.")]
EngineOption = Annotated[
    str,
    typer.Option(envvar="WINNOW_ENGINE", help="`ray` (this machine's own, or the cluster of RAY_ADDRESS) or `local`."),
]
Workers = Annotated[
    int | None, typer.Option(envvar="WINNOW_WORKERS", min=1, help="Shards at a time. Default: all processors.")
]
ROOT = "./winnow-data"


def out(value: Any) -> None:
    """Print the JSON answer."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def check_engine(name: str) -> None:
    """Errors: WinnowError for an engine that there is not."""
    from pipelines.errors import WinnowError, nearest

    if name not in ("ray", "local"):
        raise WinnowError(f"--engine {name}: {nearest(name, ['ray', 'local'])}")


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="The recipe's YAML file.")],
    root: Root = ROOT,
    engine: EngineOption = "ray",
    workers: Workers = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: `path.to.key=value`. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a corpus: sources to packed tokens. Steps that are there already are reused.

    Example: `winnow build pipelines/recipes/demo.yaml --set near_duplicates.threshold=0.7`
    """
    check_engine(engine)
    from pipelines.ledger import storage
    from pipelines.recipe import load
    from pipelines.steps.ingest import check_inputs

    # A mistake is told before anything is started.
    check_inputs(load(recipe, tuple(settings or ())))
    storage.check_writable(root)
    from flows.prefect.ephemeral import start_server

    server = start_server()
    from flows.console import CONSOLE, Console, count
    from flows.prefect.curate import EngineName, curate_flow

    server()
    console = Console(quiet=as_json and not sys.stderr.isatty())
    CONSOLE.set(console)
    answer = curate_flow(
        recipe=str(recipe), root=root, engine=cast(EngineName, engine), workers=workers, settings=tuple(settings or ())
    )
    if as_json:
        out(answer)
        return
    share = answer["rows_kept"] / max(answer["rows_in"], 1)
    console.say(
        f"\n[bold]{answer['run']}[/bold]: {count(answer['rows_kept'])} of {count(answer['rows_in'])} rows kept"
        f" ({share:.1%})"
    )
    console.say(f"  report   {answer['report']}")
    console.say(f"  next     winnow train {answer['run']} --root {root}")


@app.command()
def scan(
    corpus: Annotated[list[str], typer.Argument(help="Files, folders, globs or hf:// s3:// URLs of rows.")],
    benchmarks: Annotated[
        list[str],
        typer.Option(
            "--benchmarks", "-b", help="`name=path`, or a file or folder to search for evaluation sets. Repeatable."
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(help="`instruction=question,response=answer`, `text=body` or `messages=turns`. Default: a guess."),
    ] = None,
    rule: Annotated[str, typer.Option(help="ngram13 (ours), or a published one: gpt3, palm, tulu3 ...")] = "ngram13",
    semantic: Annotated[
        bool, typer.Option("--semantic", help="Look for items in other words too, by sentence vectors: slow on a CPU.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="End with exit code 1 where a test item is found.")] = False,
    root: Root = ROOT,
    engine: EngineOption = "ray",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Check any corpus against evaluation sets: which items it holds, in which rows, on what evidence.

    Nothing but the check is run. A scan that was stopped carries on; one that was done is read back. The rows without
    leaks, the flagged rows with their evidence and every hit stay below the root as Parquet files.

    Example: `winnow scan data/*.parquet --benchmarks gsm8k=gsm8k_test.jsonl --columns instruction=q,response=a`
    """
    from pipelines.errors import CheckFailed

    check_engine(engine)
    from pipelines.formats.read import column_names
    from pipelines.ledger import storage
    from pipelines.recipe import Contamination
    from pipelines.scan import find_benchmarks, parse_columns, scan_recipe
    from pipelines.steps.benchmark_index import check_contamination
    from pipelines.steps.ingest import check_inputs

    # A mistake is told before anything is started.
    mapped = parse_columns(columns) if columns else None
    found = find_benchmarks(benchmarks)
    settings = Contamination(benchmarks=found.specs, rule=rule, semantic=semantic)
    check_contamination(settings)
    recipe = scan_recipe(corpus, mapped, settings)
    check_inputs(recipe)
    storage.check_writable(root)
    if semantic:
        from training.embedding import check_installed

        check_installed()
    from flows.prefect.ephemeral import start_server

    server = start_server()
    from flows.console import CONSOLE, Console, count
    from flows.prefect.curate import EngineName
    from flows.prefect.scan import scan_flow

    server()
    console = Console(quiet=as_json and not sys.stderr.isatty())
    CONSOLE.set(console)
    (source,) = recipe.sources
    used = source.columns or {}
    rest = [name for name in column_names(source.paths[0]) if name not in used.values()]
    console.say(
        f"columns: {', '.join(f'{key} is {name!r}' for key, name in used.items())}"
        + (f"; not read: {', '.join(rest)}" if rest else "")
    )
    for path in found.others:
        console.say(f"[yellow]! {path}: no evaluation set that is known; name it to read it: NAME={path}[/yellow]")
    answer = scan_flow(
        corpus=tuple(corpus), benchmarks=tuple(benchmarks), columns=mapped, rule=rule, semantic=semantic,
        root=root, engine=cast(EngineName, engine), workers=workers,
    )  # fmt: skip
    if as_json:
        out(answer)
    else:
        console.say("")
        for line in sorted(answer["benchmarks"], key=lambda line: -int(line["contaminated"])):
            if not line["contaminated"]:
                continue
            share = line["contaminated"] / line["items"]
            console.say(
                f"  {line['benchmark']:<24}{count(line['contaminated']):>8} of {count(line['items']):<8} items found"
                f" ({share:.1%}) in {count(line['rows'])} rows"
            )
        if clean := [line["benchmark"] for line in answer["benchmarks"] if not line["contaminated"]]:
            console.say(f"  no item found of {', '.join(clean)}")
        for hit in answer["worst"][:3]:
            console.say(f"\n  {hit['row']} holds {hit['item']}\n    {shorten(' '.join(hit['span'].split()), 160)}")
        console.say("\n  by class, whether or not it drops a row:")
        for kind, seen in answer["classes"].items():
            console.say(f"    {kind:<22}{count(seen['rows']):>8} rows, {count(seen['items'])} items")
        console.say(f"\n  report   {answer['report']}")
        row = answer["worst"][0]["row"] if answer["worst"] else "ROW_ID"
        console.say(f"  next     winnow why {row} --run {answer['run']} --root {root}")
    if check and answer["flagged"]:
        raise CheckFailed(f"{sum(answer['flagged'].values()):,} rows hold items of evaluation sets")


@app.command()
def plan(
    recipe: Annotated[str | None, typer.Argument(help="The recipe's YAML file; --train can do without.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: `path.to.key=value`. Repeatable.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Also say what training this costs: tiny, b, l, xl ...")] = None,
    tokens: Annotated[
        float | None,
        typer.Option(min=1, help="Tokens to train on. Default: the recipe's, all epochs; without one, HRM-Text's."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to train on.")] = 1,
    price: Annotated[float, typer.Option(min=0, help="Dollars per GPU and hour.")] = 2.0,
    mfu: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of the GPU's peak put to use. Default: 0.40, upstream's."),
    ] = None,
    peak: Annotated[
        float | None, typer.Option(min=1e-3, help="The GPU's dense bf16 TFLOP/s. Default: 989, an H100's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a build would read and do, and what training on it would cost, without doing it.

    Example: `winnow plan pipelines/recipes/hrm_text_mini.yaml`, `winnow plan --train xl --gpus 16 --price 2`
    """
    from flows.console import Console
    from pipelines.errors import WinnowError
    from pipelines.plan import plan as make_plan
    from pipelines.recipe import load

    if recipe is None and train is None:
        raise WinnowError("nothing to plan: give a recipe, or --train and a configuration's name")
    loaded = load(recipe, tuple(settings or ())) if recipe else None
    made = make_plan(loaded) if loaded else {}
    lines: list[str] = list(made.get("words", ()))
    if train is not None:
        from flows.cost import training_cost

        made["training"], told = training_cost(train, loaded, made.get("tokens"), tokens, gpus, price, mfu, peak)
        lines += told
    if as_json:
        out(made)
        return
    console = Console()
    from rich.markup import escape

    for line in inputs_by_source(made.get("inputs", ())):
        console.say(f"  {escape(line)}")
    if loaded:
        console.say("")
    for line in lines:
        console.say(f"  {escape(line)}")


def inputs_by_source(inputs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each source and each kind of answer: how much there is, or what is missing, and where."""
    for (name, missing), group in itertools.groupby(inputs, lambda one: (one["source"], one["missing"])):
        files = list(group)
        first = files[0]
        if missing:
            size = "missing" + (f", {first['published_rows']:,} rows" if first["published_rows"] else "")
        elif first["rows"] is not None:
            size = f"{first['rows']:,} rows"
        else:
            size = f"{sum(one['bytes'] for one in files):,} bytes"
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        yield f"{name:<24}{size:>28}  {first['file']}{more}"


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
    from pipelines.audit.why import why as find_fate
    from pipelines.ledger.runs import open_run

    fate = find_fate(open_run(root, run), row).model_dump(mode="json", exclude_none=True)
    if as_json:
        out(fate)
        return
    console = Console()
    for entry in fate["history"]:
        console.say(
            f"  {entry['step']:<20}{entry['verdict']}" + (f"  [red]{because(entry)}[/red]" if "reason" in entry else "")
        )
    for part in ("instruction", "response"):
        console.say(f"\n[bold]{part}[/bold]\n{shorten(fate[part])}")


def because(entry: dict[str, Any]) -> str:
    """Stage, reason and evidence of a dropped row in one line."""
    return shorten(f"{entry['stage']}/{entry['reason']}  {json.dumps(entry['evidence'], ensure_ascii=False)}")


def shorten(text: str, limit: int = 2000) -> str:
    """The beginning of a text, with a word on how much more there is; square brackets are not markup."""
    from rich.markup import escape

    return escape(text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} characters more)")


@app.command()
def similar(
    run: RunName = "latest",
    text: Annotated[str | None, typer.Option(help="The text to look for.")] = None,
    file: Annotated[str | None, typer.Option(help="A file that holds it (UTF-8).")] = None,
    on: Annotated[
        str | None,
        typer.Option(help="`instruction`, `response` or `both`. Default: what the recipe's near duplicates compare."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=200, help="How many rows to show.")] = 5,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Say which rows of a corpus are like a text, with their exact Jaccard. The first time an index is made.

    Example: `winnow similar latest --text "A train leaves at noon and travels 60 miles an hour." --on instruction`
    """
    from flows.console import Console, count
    from pipelines.audit.similar import found_share, settings_of
    from pipelines.audit.similar import similar as look_up
    from pipelines.errors import WinnowError, nearest
    from pipelines.ledger.engine import LocalEngine
    from pipelines.ledger.run import Run
    from pipelines.ledger.runs import open_run

    if (text is None) == (file is None):
        raise WinnowError("say what to look for: `--text TEXT` or `--file PATH`, one of them")
    if on not in (None, "instruction", "response", "both"):
        raise WinnowError(f"--on {on}: {nearest(str(on), ['instruction', 'response', 'both'])}")
    found = open_run(root, run)
    fields, ngram, unit = settings_of(found, on)
    sought = read_text(file) if file is not None else str(text)
    console = Console(quiet=as_json and not sys.stderr.isatty())
    with LocalEngine(max(1, min(len(found.records.shards), os.cpu_count() or 1))) as engine, console:
        running = Run(root, engine, watch=console.watch)
        answer = look_up(running, found.records, sought, fields, ngram, unit, top)
    matches = [{"jaccard": round(match.jaccard, 4), **match.row} for match in answer.matches]
    if as_json:
        shares = {f"{percent / 100:.1f}": round(found_share(percent / 100), 4) for percent in (50, 60, 70, 80, 90)}
        about = {"fields": list(fields), "ngram": ngram, "unit": unit, "found_share": shares}
        out({"run": found.id, "rows": answer.rows, "met": answer.met, **about, "matches": matches})
        return
    for match in matches:
        console.say(f"\n[bold]{match['jaccard']:.3f}[/bold]  {match['id']}  [dim]{match['condition']}[/dim]")
        for part in fields:
            console.say(f"  {shorten(match[part], 600)}")
    compared = " and ".join(fields)
    console.say(
        f"\n{len(matches)} shown of {count(answer.met)} that may be alike, among {count(answer.rows)} rows; compared by"
        f" {compared}. Of rows with Jaccard 0.5, {found_share(0.5):.0%} are found; with 0.6, {found_share(0.6):.0%}; "
        f"with 0.7, {found_share(0.7):.2%}."
    )


def read_text(path: str) -> str:
    """A user's file of text. Errors: WinnowError where it is none."""
    from pipelines.errors import WinnowError
    from pipelines.ledger import storage

    if not storage.exists(path):
        raise WinnowError(f"--file {path}: no such file")
    try:
        return storage.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise WinnowError(f"--file {path}: not UTF-8 ({error})") from error


@app.command()
def clusters(
    run: RunName = "latest",
    top: Annotated[int, typer.Option(min=1, help="How many clusters to show, the largest first.")] = 5,
    members: Annotated[int, typer.Option(min=1, help="Dropped rows to show of each, the least alike first.")] = 2,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Show the largest clusters of duplicates: the row that was kept beside rows that were not, and what differs.

    Example: `winnow clusters latest --top 3`
    """
    from flows.console import Console, count
    from pipelines.audit.clusters import clusters as gather
    from pipelines.ledger.runs import open_run

    answer = gather(open_run(root, run), top, members)
    if as_json:
        out(answer)
        return
    console = Console()
    dropped = ", ".join(f"{count(rows)} by {step}" for step, rows in answer["rows_dropped"].items())
    console.say(f"{count(answer['clusters'])} cluster{'s' if answer['clusters'] != 1 else ''}; rows dropped: {dropped}")
    for number, cluster in enumerate(answer["largest"], 1):
        console.say(
            f"\n[bold]{number}. {count(cluster['rows'])} rows[/bold]: kept {cluster['kept']}"
            f"{' in ' + cluster['against'] if cluster['against'] else ''}, dropped"
            f" {count(cluster['exact'])} exact and {count(cluster['near'])} near duplicates"
        )
        for member in cluster["members"]:
            alike = "exact" if member["jaccard"] is None else f"Jaccard {member['jaccard']:.3f}"
            sides = [cluster if cluster["response"] is not None else None, member]
            texts = [f"{side['instruction']}\n→ {side['response']}" if side else "(its run is gone)" for side in sides]
            console.beside((cluster["kept"], texts[0][:800]), (f"{member['id']}  ({alike})", texts[1][:800]))
            differs = "; ".join(
                f"{a.strip() or '(nothing)'} → {b.strip() or '(nothing)'}" for a, b in member["differs"]
            )
            console.say(f"  differs: {shorten(differs, 400) or 'in case, white space or punctuation at most'}")


@app.command()
def diff(left: RunName, right: RunName, root: Root = ROOT, as_json: Json = False) -> None:
    """Say what changed between two runs: settings, reasons, and the rows that only one corpus has.

    Example: `winnow diff demo-1a2b3c4d demo-5e6f7a8b`
    """
    from flows.console import Console, count
    from pipelines.audit.diff import diff as compare
    from pipelines.ledger.runs import open_run

    changes = compare(open_run(root, left), open_run(root, right)).model_dump(mode="json")
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
    from pipelines.audit.report import write_report
    from pipelines.ledger.runs import open_run

    path = write_report(open_run(root, run))
    out({"report": path}) if as_json else typer.echo(path)


@app.command()
def verify(run: RunName = "latest", root: Root = ROOT, as_json: Json = False) -> None:
    """Check a run from its files: every digest, every count, every id once.

    Example: `winnow verify latest`
    """
    from pipelines.audit.verify import verify as verify_run
    from pipelines.ledger.runs import open_run

    checked = verify_run(open_run(root, run)).model_dump(mode="json")
    out(checked) if as_json else typer.echo("verified: {steps} steps, {files} files, {rows} rows".format(**checked))


@app.command()
def sources(as_json: Json = False) -> None:
    """List the data sets that Winnow can read: rows, licence, revision, conditions, and the evaluation sets they hold.

    Example: `winnow sources`
    """
    from pipelines.sources import SOURCES

    shown = ("name", "title", "licence", "home", "revision", "conditions", "rows", "bytes", "path", "overlaps")
    rows = [{key: getattr(source, key) for key in shown} for source in SOURCES.values()]
    if as_json:
        out({"sources": rows})
        return
    typer.echo(f"{'name':<24}{'conditions':<42}{'rows':>12}  {'licence':<24}{'revision':<10}title")
    for row in rows:
        size = "unknown" if row["rows"] is None else f"{row['rows']:,}"
        size = size if SOURCES[row["name"]].read else "any"
        typer.echo(
            f"{row['name']:<24}{' '.join(row['conditions']):<42}{size:>12}  {row['licence']:<24}{row['revision']:<10}"
            + row["title"]
        )
        if row["overlaps"]:
            typer.echo(f"{'':<24}warning: holds {', '.join(row['overlaps'])} by construction")


@app.command()
def export(
    run: Annotated[
        str, typer.Argument(help="A run's id, a unique beginning of it, or `latest`; for `transformers`, a checkpoint.")
    ],
    to: Annotated[str, typer.Option("--out", help="A new folder for the export.")],
    form: Annotated[
        str, typer.Option("--format", help="Of a corpus `hf`, `jsonl` or `hrm-text`; of a checkpoint `transformers`.")
    ] = "hf",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Write a run's corpus for others: a Hugging Face data set, JSONL, or the layout of HRM-Text's own trainer; or a
    checkpoint (`latest`: the newest) as a model folder that transformers loads, and `winnow generate` too.

    Example: `winnow export latest --format jsonl --out corpus`, `winnow export latest --format transformers --out hf`
    """
    if form == "transformers":
        from training.export import to_transformers
        from training.finding import find_checkpoint

        folder = str(to_transformers(find_checkpoint(run, root), to))
        out({"folder": folder}) if as_json else typer.echo(f"a model for transformers in {folder}")
        return
    from pipelines.errors import WinnowError, nearest
    from pipelines.export import EXPORTS
    from pipelines.ledger.runs import open_run

    if form not in EXPORTS:
        raise WinnowError(f"--format {form}: {nearest(form, [*EXPORTS, 'transformers'])}")
    done = EXPORTS[form](open_run(root, run), to)
    out(done._asdict()) if as_json else typer.echo(f"{done.rows:,} rows in {len(done.files)} files below {done.folder}")


@app.command()
def train(
    run: Annotated[
        str, typer.Argument(help="A run's id, `latest`, or a folder of packs and their tokenizer.json.")
    ] = "latest",
    config: Annotated[str, typer.Option(help="tiny, b, l, xl ...: a function in training/configs.py.")] = "tiny",
    to: Annotated[str | None, typer.Option("--out", help="Folder of the checkpoints. Default: below the root.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray Train workers. Default: one for each GPU, or two processors.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key of the configuration: `lr=2e-4`, `model.norm=pre`. Repeatable."),
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Train HRM-Text on a run's packs under Ray Train; carries on from the latest checkpoint.

    Beside the checkpoints it leaves metrics.jsonl, TensorBoard's event files and loss.png. With `--set start=FOLDER` it
    begins with the weights of a checkpoint or of a model folder of transformers, whose tokenizer the packs must have.

    Example: `winnow train latest --config tiny --set checkpoint_minutes=5`
    """
    from flows.prefect.ephemeral import start_server

    server = start_server()
    from flows.console import CONSOLE, Console, count
    from flows.prefect.train import train_flow

    server()
    console = Console(quiet=as_json and not sys.stderr.isatty())
    CONSOLE.set(console)
    answer = train_flow(
        run=run, config=config, root=root, out=to, workers=workers, steps=steps, settings=tuple(settings or ())
    )
    if as_json:
        out(answer)
        return
    console.say(
        f"\n[bold]{config}[/bold]: {count(answer['steps'])} steps, {count(answer['tokens'])} tokens,"
        f" loss {answer['loss']:.3f}"
    )
    if "validation_loss" in answer:
        console.say(f"  held out    loss {answer['validation_loss']:.3f} on rows never trained on")
    console.say(f"  curve       {answer['out']}/loss.png")
    console.say(f"  checkpoint  {answer['checkpoint']}")
    console.say(f"  next        winnow evaluate latest --root {root}")


@app.command()
def trace(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint's folder, a training folder, or `latest`.")
    ] = "latest",
    step: Annotated[int, typer.Option(min=1, help="Which step's batch.")] = 1,
    packs: Annotated[
        str | None, typer.Option(help="Folder of the packs, where no run below the root has made them.")
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """List the rows that a step of a training was made of: id, source and scores.

    Example: `winnow trace latest --step 400`
    """
    from training.finding import find_checkpoint
    from training.provenance import trace as trace_batch

    traced = trace_batch(find_checkpoint(checkpoint, root), step, root, packs)
    if as_json:
        out(traced)
        return
    from flows.console import Console, count

    console = Console()
    for row in traced["rows"]:
        scores = "  ".join(f"{name} {value:g}" for name, value in row["scores"].items() if value is not None)
        typer.echo(f"{row['pack']:>8}  {row['id']:<52}{row['source']:<28}{scores}")
    same = {True: ", as metrics.jsonl has it", False: ", NOT what metrics.jsonl has", None: ""}[traced["same"]]
    console.say(
        f"\nstep {count(step)} of {count(traced['total_steps'])}, epoch {traced['epoch']}: "
        f"{count(len(traced['rows']))} rows, digest {traced['digest']}{same}"
    )


@app.command()
def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint's folder, a training folder, or `latest`.")
    ] = "latest",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. Default: all that the run was checked against and that can be scored."),
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option(help="Files of the benchmark, where the run does not name them.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first items.")] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Score a checkpoint: on all items, on clean ones, and on those that its corpus held.

    Each score has its 95 % interval. Below stands HRM-Text's test of whether contamination lifts the score: items of
    which less than 20 % of the tokens lie in n-grams of the corpus are clean, from 80 % on dirty; an effect is
    significant where all four subsets depart from the overall mean by more than two standard errors.

    Example: `winnow evaluate latest --benchmark gsm8k --limit 200`
    """
    from training.finding import find_checkpoint

    folder = find_checkpoint(checkpoint, root)
    from flows.prefect.ephemeral import start_server

    server = start_server()
    from flows.console import CONSOLE, Console
    from flows.prefect.evaluate import evaluate_flow

    server()
    console = Console(quiet=as_json and not sys.stderr.isatty())
    CONSOLE.set(console)
    answer = evaluate_flow(
        checkpoint=folder, benchmarks=tuple(benchmark or ()), root=root, paths=tuple(path or ()), limit=limit
    )
    if as_json:
        out(answer)
        return
    for scores in answer["scores"]:
        console.say(f"\n[bold]{scores['benchmark']}[/bold]  {scores['checkpoint']}")
        for name in ("all", "clean", "contaminated"):
            if (score := scores[name]) and score["n"]:
                console.say(
                    f"  {name:<14}{score['correct']:>6} of {score['n']:<6}{score['score']:>7.1%}   "
                    f"95 % interval {score['low']:.1%} to {score['high']:.1%}"
                )
        for line in overlap_lines(scores):
            console.say(f"  {line}")
    if answer["report"]:
        console.say(f"\n  report   {answer['report']}")
    console.say(f"  next     winnow generate {checkpoint} --root {root} 'What is 7 + 5?'")


def overlap_lines(scores: dict[str, Any]) -> list[str]:
    """The paper's test in words: each subset's items, score and Z, and whether contamination lifts the score."""
    lines = []
    for test in scores["overlap"]:
        parts = [
            f"{name.replace('_', ' ')} {part['n']}"
            + (f" {part['score']:.1%}" if part["n"] else "")
            + (f" Z {part['z']:+.2f}" if part["z"] is not None else "")
            for name, part in ((name, test[name]) for name in ("clean", "not_clean", "not_dirty", "dirty"))
        ]
        verdict = "contamination lifts the score" if test["significant"] else "no significant effect"
        lines.append(f"by {test['ngram']}-grams  {', '.join(parts)}: {verdict}")
    return lines


@app.command()
def generate(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint's folder, a training folder, or `latest`.")],
    instruction: Annotated[str, typer.Argument(help="What to ask.")],
    condition: Annotated[
        str, typer.Option(help="Tags, as the corpus writes them: `direct`, `cot`, `synth,cot` ...")
    ] = "direct",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Ask a checkpoint one thing.

    Example: `winnow generate latest 'What is 7 + 5?'`
    """
    from training.finding import find_checkpoint
    from training.inference.generate import answer, load

    folder = find_checkpoint(checkpoint, root)
    said = answer(load(folder), [instruction], condition, max_tokens)[0]
    out(
        {"checkpoint": folder, "condition": condition, "instruction": instruction, "response": said}
    ) if as_json else typer.echo(said)


def main() -> None:
    """Run the command and turn exceptions into exit codes and words."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from pipelines.errors import RESUME, WinnowError

    try:
        app()
    except (WinnowError, FileNotFoundError) as error:
        fail(2, error)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        fail(1, error)
    except KeyboardInterrupt:
        print(f"stopped; {RESUME}", file=sys.stderr)
        sys.exit(130)


def fail(code: int, error: BaseException) -> None:
    """Say what went wrong and leave. WINNOW_DEBUG=1 adds the traceback."""
    if os.environ.get("WINNOW_DEBUG"):
        raise error
    print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
