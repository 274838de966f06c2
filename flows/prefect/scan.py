"""The scan flow: `flows.scan`, scheduled by Prefect."""

from __future__ import annotations

from prefect import flow

from flows.execute import EngineName
from flows.prefect.tracker import PrefectTracker
from flows.scan import ScanAnswer, scan


@flow(name="scan", validate_parameters=True)
def scan_flow(
    corpus: tuple[str, ...],
    benchmarks: tuple[str, ...],
    columns: dict[str, str | tuple[str, ...]] | None = None,
    rule: str = "ngram13",
    semantic: bool = False,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
) -> ScanAnswer:
    """Check a corpus against evaluation sets. The parameters are those of `flows.scan.scan`.

    Raises: WinnowError: for a mistake in the arguments or the files. CheckFailed: if a step fails.
    """
    return scan(corpus, benchmarks, columns, rule, semantic, root, engine, workers, PrefectTracker())
