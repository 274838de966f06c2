"""The curation flow: `flows.build`, scheduled by Prefect."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.build import BuildAnswer, build
from flows.execute import EngineName
from flows.prefect.tracker import PrefectTracker


def _run_name() -> str:
    """The name of a flow run: that of the recipe's file."""
    return Path(flow_run.parameters["recipe"]).stem


@flow(name="curate", flow_run_name=_run_name, validate_parameters=True)
def curate_flow(
    recipe: str,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
) -> BuildAnswer:
    """Build a corpus from a recipe.

    recipe: path of the YAML file. The other parameters are those of `flows.build.build`.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails.
    """
    return build(recipe, root, engine, workers, settings, PrefectTracker())
