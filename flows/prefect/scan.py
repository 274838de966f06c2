"""The scan flow: `flows.scan`, scheduled by Prefect."""

from __future__ import annotations

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from filters.contamination.rules import RULES
from flows.prefect.parameters import Engine, Memory, Root, Workers
from flows.prefect.tracker import PrefectTracker, reported
from flows.root import root_or_default
from flows.scan import ScanAnswer, scan


@flow(name="scan", flow_run_name="scan {corpus}", validate_parameters=True)
@reported
def scan_flow(
    corpus: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="Files, folders, globs, or `hf://` and `s3://` URLs."),
    ],
    benchmarks: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="An evaluation set as `name=path`, or a file or folder in which sets are searched.",
        ),
    ],
    columns: Annotated[
        dict[str, str | tuple[str, ...]] | None,
        Field(description='As `{"instruction": "q", "response": "a"}`. Default: guessed.'),
    ] = None,
    rule: Annotated[
        Literal[tuple(RULES)],  # type: ignore[valid-type]
        Field(description="The rule by which an item counts as found."),
    ] = "ngram13",
    semantic: Annotated[
        bool, Field(description="Also search for paraphrased items, by sentence vectors. Slow.")
    ] = False,
    root: Root = None,
    engine: Engine = "ray",
    workers: Workers = None,
    memory: Memory = None,
) -> ScanAnswer:
    """Check any corpus against evaluation sets: which items it contains, in which rows, on what evidence.

    Raises: WinnowError: for a mistake in the arguments or the files. CheckFailed: if a step fails.
    """
    return scan(
        corpus, benchmarks, columns, rule, semantic, root_or_default(root), engine, workers, PrefectTracker(), memory
    )  # fmt: skip
