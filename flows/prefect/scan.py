"""The scan flow: `pipelines.scan` under Prefect's eyes, with the same engine, steps and bar as a build."""

from __future__ import annotations

from typing import Any

import yaml
from prefect import flow

from flows.prefect.curate import EngineName, execute_recipe, steps_made
from pipelines.recipe import Contamination
from pipelines.scan import find_benchmarks, scan_recipe, summary
from pipelines.steps import SCAN_STEPS


@flow(name="scan", validate_parameters=True)
def scan_flow(
    corpus: tuple[str, ...],
    benchmarks: tuple[str, ...],
    columns: dict[str, str] | None = None,
    rule: str = "ngram13",
    semantic: bool = False,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
) -> dict[str, Any]:
    """Check a corpus against evaluation sets.

    corpus: paths, folders, globs or URLs. benchmarks: as `pipelines.scan.find_benchmarks` takes them. columns: what
    holds the text, None to guess by names. semantic: look for items in other words too. Returns what `winnow scan
    --json` prints.
    """
    found = find_benchmarks(benchmarks)
    recipe = scan_recipe(corpus, columns, Contamination(benchmarks=found.specs, rule=rule, semantic=semantic))
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    done = execute_recipe(recipe, text, root, engine, workers, SCAN_STEPS)
    return {
        **summary(done.run),
        "root": done.run.root,
        "not_read": list(found.others),
        "steps": steps_made(done.results),
        "report": done.report,
    }
