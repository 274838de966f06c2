"""The curation flow: `flows.build`, scheduled by Prefect."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.build import BuildAnswer, build
from flows.execute import absolute
from flows.prefect.parameters import Against, Engine, FromStep, Memory, Recipe, Root, Settings, Workers
from flows.prefect.tracker import PrefectTracker, reported
from flows.root import root_or_default
from pipelines.errors import RunError
from pipelines.ledger.runs import recorded


def _run_name() -> str:
    """The name of a flow run: that of the recipe's file."""
    return Path(flow_run.parameters["recipe"]).stem


@flow(name="curate", flow_run_name=_run_name, validate_parameters=True)
@reported
def curate_flow(
    recipe: Recipe,
    root: Root = None,
    engine: Engine = "ray",
    workers: Workers = None,
    settings: Settings = (),
    against: Against = (),
    from_step: FromStep = None,
    memory: Memory = None,
) -> BuildAnswer:
    """Build a corpus from a recipe. Finished steps are reused.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails.
    """
    return build_reported(recipe, root_or_default(root), engine, workers, settings, against, from_step, memory)


def build_reported(
    recipe: str,
    root: str,
    engine: Engine,
    workers: int | None,
    settings: Sequence[str],
    against: Sequence[str],
    from_step: str | None,
    memory: int | None = None,
) -> BuildAnswer:
    """Build a corpus, and show it in the flow run that is going on. The arguments are those of `curate_flow`."""
    if against:
        settings = (*settings, f"against=[{', '.join(matching_runs(absolute(root), against))}]")
    return build(recipe, root, engine, workers, tuple(settings), PrefectTracker(), from_step, memory)


def matching_runs(root: str, patterns: Sequence[str]) -> list[str]:
    """The ids of recorded runs that match, in order, each once. A pattern with `*` may match none: the first night.

    Raises: RunError: if there is no run of an id without `*`.
    """
    runs = [run for run, _ in recorded(root)]
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(runs, pattern)
        if not matches and "*" not in pattern:
            raise RunError(f"against: {pattern}: no run of this id in {root}; `winnow runs --root {root}` lists them")
        found |= dict.fromkeys(matches)
    return list(found)
