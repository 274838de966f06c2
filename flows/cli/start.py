"""Which commands start with files of the user's own? init, schema; and `winnow build` without a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import ROOT, Columns, Json, Root

if TYPE_CHECKING:
    from flows.console import Console
    from pipelines.start import Survey, SurveyedSource

RECIPE_SUFFIXES = (".yaml", ".yml")


def init(
    files: Annotated[list[str], typer.Argument(help="Files, folders, globs, or hf:// and s3:// URLs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The recipe to write.")] = "recipe.yaml",
    columns: Columns = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A model to fine-tune, as in `winnow train --from`: the recipe has its tokenizer and its context.",
        ),
    ] = None,
    root: Root = ROOT,
    force: Annotated[bool, typer.Option("--force", help="Replace the recipe if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a recipe for your own files: which columns hold the instruction and the response is guessed, and three
    records of each layout are shown as a build reads them.

    Example: `winnow init data.csv`, `winnow init mine.jsonl --from latest`
    """
    import posixpath

    from flows.cli.answer import print_answer
    from flows.cli.session import console_session
    from pipelines.credentials import is_public
    from pipelines.errors import WinnowError
    from pipelines.formats.roles import parse_columns
    from pipelines.ledger import storage
    from pipelines.schema import schema_text
    from pipelines.start import SCHEMA_NAME, recipe_text, survey

    if not out.endswith(RECIPE_SUFFIXES):
        raise WinnowError(f"--out {out}: a recipe is a YAML file; name it {posixpath.splitext(out)[0]}.yaml")
    if storage.exists(out) and not force:
        raise WinnowError(f"{out}: exists; name another with --out, or replace it with --force")
    folder = posixpath.dirname(out)
    packing: dict[str, Any] = {}
    if start is not None:
        from training.folders import find_checkpoint
        from training.start import packing_for

        packing = packing_for(find_checkpoint(start, root))._asdict()
    found = survey(files, parse_columns(columns) if columns else None, folder or ".")
    text = recipe_text(found, typed("init", files, columns, start), **packing)
    schema = storage.join(folder, SCHEMA_NAME) if folder else SCHEMA_NAME
    storage.write_bytes(schema, schema_text().encode())
    storage.write_bytes(out, text.encode())
    answer = {"recipe": out, "schema": schema, **found.model_dump(mode="json")}
    print_answer(answer, survey_lines(found), as_json)
    with console_session(as_json) as console:
        print_notes(console, found)
        console.print(f"{out}: written")
        if any(map(is_public, files)):
            console.warn(f"{out} has no credentials: give the whole address with `--set sources.<name>.path=URL`")
        console.print(f"next: winnow build {shlex.quote(out)}")


def schema() -> None:
    """Print the JSON Schema of recipes, with which an editor completes and checks keys.

    Example: `winnow schema > recipe.schema.json`
    """
    from pipelines.schema import schema_text

    typer.echo(schema_text(), nl=False)


def is_recipe(path: str) -> bool:
    """Whether an argument of `winnow build` is a recipe: it is no data file, folder or glob."""
    from pipelines.formats.read import FORMATS
    from pipelines.ledger import corpus_manifest, input_files, storage

    if path.lower().endswith(RECIPE_SUFFIXES) or corpus_manifest.is_manifest(path):
        return True
    if any(character in path for character in "*?[") or storage.is_folder(path):
        return False
    if input_files.suffix(path) in FORMATS:
        return input_files.suffix(path) == ".json" and _has_sources(path)
    return input_files.suffix(path) == ""


def _has_sources(path: str) -> bool:
    """Whether a JSON file is a recipe: JSON is YAML."""
    from pipelines.errors import WinnowError
    from pipelines.formats.read import column_names
    from pipelines.ledger import storage

    try:
        if not storage.exists(path) or storage.size(path) > (1 << 20):
            return False
        value = storage.read_json(path)
    except (ValueError, WinnowError):
        return False
    return isinstance(value, dict) and {"name", "sources"} <= value.keys() and "sources" not in column_names(path)


def recipe_of(inputs: Sequence[str], columns: str | None, root: str, console: Console) -> str:
    """The path of the recipe that `winnow build` builds: that named, or one for the files named, kept below the root.

    Raises: WinnowError: as `init`, or if both are named.
    """
    import hashlib

    from pipelines.errors import WinnowError
    from pipelines.formats.roles import parse_columns
    from pipelines.ledger import storage
    from pipelines.schema import schema_text
    from pipelines.start import SCHEMA_NAME, recipe_text, survey

    recipes = [path for path in inputs if is_recipe(path)]
    if recipes:
        if len(inputs) > 1:
            other = next((path for path in inputs if path not in recipes), recipes[-1])
            raise WinnowError(f"{recipes[0]} is a recipe, which names its files; build it alone, without {other}")
        if columns:
            raise WinnowError("--columns: a recipe names its columns; use --set sources.0.columns='{...}'")
        return recipes[0]
    found = survey(inputs, parse_columns(columns) if columns else None, None)
    text = recipe_text(found, typed("init", inputs, columns))
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    path = storage.join(root, "recipes", f"{found.name}-{digest}.yaml")
    storage.write_bytes(storage.join(root, "recipes", SCHEMA_NAME), schema_text().encode())
    storage.write_bytes(path, text.encode())
    for source in found.sources:
        for line in source_lines(source):
            console.print(line)
    print_notes(console, found)
    console.print(f"recipe: {path} (to change it: {typed('init', inputs, columns)})")
    return path


def typed(command: str, files: Sequence[str], columns: str | None, start: str | None = None) -> str:
    """The command that writes the recipe for files."""
    options = {"--columns": columns, "--from": start}
    given = [word for option, value in options.items() if value for word in (option, value)]
    return shlex.join(["winnow", command, *files, *given])


# Lines


def survey_lines(found: Survey) -> Iterator[str]:
    """What was found in the files: how each layout is read, and its first records."""
    for source in found.sources:
        yield from source_lines(source)
        for record in source.records:
            yield f"\n  {record.id}"
            for part in ("instruction", "response"):
                lines = _shortened(getattr(record, part))
                yield f"    {part:<12} {lines[0]}"
                yield from (f"    {'':<12} {line}" for line in lines[1:])
        yield ""


def source_lines(source: SurveyedSource) -> Iterator[str]:
    """How the files of a source are read."""
    more = f" and {len(source.path) - 1} more" if len(source.path) > 1 else ""
    yield f"source {source.name}: {source.path[0]}{more}"
    for part, named in source.columns.items():
        yield f"  {part:<12} {named if isinstance(named, str) else ' + '.join(named)}"
    if source.encoding:
        yield f"  {'encoding':<12} {source.encoding} (the files are not UTF-8)"
    if source.unread:
        yield f"  {'not read':<12} {', '.join(source.unread)}"


def print_notes(console: Console, found: Survey) -> None:
    """What a user should know of the files, on stderr."""
    for source in found.sources:
        if source.unreadable:
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in source.unreadable.items())
            bad = sum(source.unreadable.values())
            note = f"source {source.name}: {bad:,} of the first {source.rows:,} rows will be dropped ({reasons})"
            console.warn(note)
    for line in found.skipped:
        console.warn(f"not read: {line}")


def _shortened(text: str, lines: int = 6, width: int = 110) -> list[str]:
    """The first lines of a text, each shortened."""
    every = text.strip("\n").splitlines() or [""]
    shown = [line if len(line) <= width else f"{line[:width]} …" for line in every[:lines]]
    return shown if len(every) <= lines else [*shown, f"… ({len(every) - lines} more lines)"]
