"""Which commands explain or check what a run did? why, similar, clusters, diff, report, trace."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Checkpoint, Json, Raw, Root, Run, RunOption
from flows.cli.session import console_session


def why(
    row: Annotated[
        str | None, typer.Argument(help="The row's id: `<source>/<file>/<row>`, as reports and exports have it.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="The row's whole instruction or whole response, instead of its id.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="The row's digest, 32 hex digits, instead of its id.")] = None,
    run: RunOption = "latest",
    root: Root = ROOT,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Tell the story of a row: its source with licence and revision; what each step changed, measured and decided; of a
    duplicate the row that stayed, side by side; and the packs, training steps and checkpoints that contain it.

    The first call for a run makes an index of its rows; `--text` and `--digest` make one of its texts.

    Example: `winnow why gsm8k_train/gsm8k_train/17`; `winnow why --text "What is 2 + 2?"`; `winnow why --digest
    1f0c7a... --run latest --json`
    """
    from flows import why as stories
    from flows.cli import render_why
    from pipelines.errors import WinnowError

    if sum(given is not None for given in (row, text, digest)) != 1:
        raise WinnowError("give one of: the id of a row, `--text TEXT`, or `--digest DIGEST`")
    with console_session(as_json):
        if row is not None:
            fate = stories.why(row, run, root)
            return print_answer(fate, render_why.why_lines(fate), as_json, exclude_none=True, raw=raw)
        found = stories.why_text(text, run, root) if text is not None else stories.why_digest(str(digest), run, root)
    print_answer(found, render_why.found_lines(found), as_json, exclude_none=True, raw=raw)


def similar(
    run: Run = "latest",
    text: Annotated[str | None, typer.Option(help="The text to search for.")] = None,
    file: Annotated[str | None, typer.Option(help="A UTF-8 file with the text.")] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Fields to compare: `instruction`, `response` or `both`. Default: as the recipe's near duplicates."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=200, help="Rows to show.")] = 5,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Search a corpus for rows similar to a text, ranked by exact Jaccard. The first search makes an index.

    Example: `winnow similar latest --text "A train leaves at noon and travels 60 miles an hour." --on instruction`
    """
    from flows.cli import render
    from flows.similar import read_text
    from flows.similar import similar as find_similar
    from pipelines.errors import WinnowError, nearest

    if (text is None) == (file is None):
        raise WinnowError("give the text to search for: either `--text TEXT` or `--file PATH`")
    fields = ("instruction", "response", "both")
    if on is not None and on not in fields:
        raise WinnowError(f"--on {on}: {nearest(on, fields)}")
    query = read_text(file) if file is not None else str(text)
    with console_session(as_json):
        answer = find_similar(run, query, cast(Literal["instruction", "response", "both"] | None, on), top, root)
    print_answer(answer, render.similar_lines(answer), as_json)


def clusters(
    run: Run = "latest",
    top: Annotated[int, typer.Option(min=1, help="Clusters to show, the largest first.")] = 5,
    members: Annotated[
        int, typer.Option(min=1, help="Dropped rows to show of each, those with the lowest Jaccard first.")
    ] = 2,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Show the largest clusters of duplicates: the kept row beside dropped rows, and where they differ.

    Example: `winnow clusters latest --top 3`
    """
    from flows.cli import render
    from pipelines.audit.clusters import clusters as find_clusters
    from pipelines.ledger.runs import open_run

    answer = find_clusters(open_run(root, run, failed=True), top, members)
    print_answer(answer, render.cluster_lines(answer), as_json)


def diff(
    left: Run,
    right: Run,
    rows: Annotated[bool, typer.Option("--rows", help="List every row that changed.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 1 if this holds: `gsm8k_train.kept<0.99`. A source, a pattern of sources or `total`; "
            "then read, kept, dropped, tokens or drawn_tokens (right / left), or newly_kept, newly_dropped or changed "
            "(rows); then < <= > >= == or != and a number. Repeatable."
        ),
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Compare two runs: settings, steps and why each is another one, tokens by source, and the rows that changed.

    Rows are told by their ids: newly kept and newly dropped by source, step and reason; kept with another text; moved
    to another id. Two manifests (`winnow export --format manifest`) are compared without their runs: rows by source,
    order and packs.

    Example: `winnow diff demo-1a2b3c4d latest --fail-if "total.kept<0.99"`,
    `winnow diff old/manifest.arrow new/manifest.arrow`
    """
    from flows.cli import render
    from pipelines.audit.conditions import parse
    from pipelines.audit.diff import MEASURES
    from pipelines.audit.diff import diff as compare
    from pipelines.errors import CheckFailed, WinnowError
    from pipelines.ledger.corpus_manifest import is_manifest
    from pipelines.ledger.runs import open_run

    conditions = [parse(text, MEASURES) for text in fail_if or ()]
    if is_manifest(left) or is_manifest(right):
        if conditions:
            raise WinnowError("--fail-if: only for runs, not for manifests")
        _diff_manifests(left, right, rows, as_json)
        return
    before, after = (open_run(root, name, failed=True) for name in (left, right))
    answer = compare(before, after, rows, conditions)
    print_answer(answer, render.diff_lines(answer), as_json)
    if answer.violations:
        raise CheckFailed("\n       ".join(map(str, answer.violations)))


def _diff_manifests(left: str, right: str, every_row: bool, as_json: bool) -> None:
    """Raises: WinnowError: if one of the two is a run. CheckFailed: if a manifest is wrong about its packs."""
    from flows.cli.render_manifest import manifest_diff_lines
    from pipelines.audit.manifest_diff import diff_manifests
    from pipelines.errors import CheckFailed, WinnowError
    from pipelines.ledger import storage
    from pipelines.ledger.corpus_manifest import CorpusManifest

    for path in (left, right):
        if not storage.exists(path):
            raise WinnowError(f"{path}: no manifest; write that of a run with `winnow export {path} --format manifest`")
    answer = diff_manifests(CorpusManifest(left), CorpusManifest(right), every_row)
    print_answer(answer, manifest_diff_lines(answer), as_json)
    if answer.contradiction:
        raise CheckFailed(
            f"{left} and {right} name the same packs, but their orders differ in {', '.join(answer.contradiction)}: "
            "one of the two manifests contradicts itself; export both again"
        )


def report(run: Run = "latest", root: Root = ROOT, as_json: Json = False) -> None:
    """Write a run's report.html again and print its path.

    Example: `winnow report latest`
    """

    from pipelines.audit.report import write_report
    from pipelines.ledger.runs import open_run

    path = write_report(open_run(root, run, failed=True))
    print_answer({"report": path}, [path], as_json)


def trace(
    checkpoint: Checkpoint = "latest",
    step: Annotated[int, typer.Option(min=1, help="The training step, from 1.")] = 1,
    packs: Annotated[
        str | None, typer.Option(help="Folder of the packs, for a training whose packs no run below the root made.")
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """List the rows that a training step read: pack, id, source and scores.

    Example: `winnow trace latest --step 400`
    """
    from flows.cli import render
    from training.folders import find_checkpoint
    from training.provenance import trace as find_rows

    answer = find_rows(find_checkpoint(checkpoint, root), step, root, packs)
    print_answer(answer, render.trace_lines(answer), as_json)
