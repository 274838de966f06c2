"""The recipe of HRM-Text reads every source that it names, and its build has a price."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flows.cli.render import plan_lines
from pipelines import recipe as recipes
from pipelines.ledger import input_files, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.plan import RATES_FILE, Plan, plan
from pipelines.recipe import Recipe
from pipelines.sources import SOURCES
from pipelines.sources.source import RAW_ROWS, RAW_TOKENS
from pipelines.steps.ingest import by_source, ingest
from pipelines.steps.sampling import ID, rule_of
from pipelines.steps.scores import MEASURE, TRAIN
from pipelines.steps.source_files import plan_inputs
from tests.pipelines.sources.samples.every import RULED, SAMPLES
from tests.pipelines.sources.samples.sample import write


def hub_of_samples(folder: Path) -> dict[str, str]:
    """Fill a mirror with a sample of each source. Returns settings for the sources without an address."""
    settings = {}
    for name, file, rows, kept, _ in RULED:
        if file.endswith(".txt") or not kept:
            continue
        source = SOURCES[name]
        if name in ("amps_khan", "amps_mathematica"):
            key = name.replace("amps_mathematica", "ampsmathematica")
            settings[f"sources.{key}.path"] = str(write(folder / key / file, rows))
            continue
        pattern = source.path[0]
        if name == "flan":
            pattern = next(path for path in source.path if path.split("/")[-2] == file.split("/")[-2])
        if name == "arb":
            pattern = pattern.replace("*.json", file)
        path = input_files.mirrored(pattern, str(folder)).replace("**/", "deep/").replace("*", "00000-of-00001")
        write(Path(path), rows)
    name, file, rows, _ = next(sample for sample in SAMPLES if sample.source == "scibench")
    settings["sources.platypus_scibench.path"] = str(write(folder / name / file, rows))
    return settings


def recipe_with_samples(folder: Path) -> Recipe:
    settings = hub_of_samples(folder) | {"mirror": str(folder), "contamination": "false"}
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text.yaml"
    return recipes.load(str(path), [f"{key}={value}" for key, value in settings.items()])


def test_the_recipe_of_hrm_text_reads_every_source_from_a_mirror(tmp_path: Path) -> None:
    recipe = recipe_with_samples(tmp_path / "hub")
    assert {source.name for source in SOURCES.values() if source.part} == {spec.adapter for spec in recipe.sources}
    answer = plan(recipe)
    # Sources with several patterns: the mirror has a file for one of them.
    assert set(answer.missing) == {"flan", "platypus_openbookqa", "platypus_reclor"}
    present = {file.source: [] for file in plan_inputs(recipe)}
    for file in plan_inputs(recipe):
        if not file.missing:
            present[file.source].append(file.path)
    sources = tuple(spec.model_copy(update={"path": tuple(present[spec.name])}) for spec in recipe.sources)
    manifest = ingest(Run(str(tmp_path / "root"), LocalEngine(1)), recipe.model_copy(update={"sources": sources}))
    read_by = by_source(manifest)
    assert set(read_by) == {spec.name for spec in recipe.sources}
    assert all(rows >= kept > 0 for rows, kept in read_by.values())
    ids = [id for shard in manifest.shards for id in storage.read_parquet(shard.path, ["id"])["id"].to_pylist()]
    assert len(set(ids)) == len(ids)
    # Every sampling rule applies to some source, and each source has the rule that HRM-Text has for it.
    files = {re.match(ID, id)["file"] for id in ids}  # type: ignore[index]
    ruled = {file: rule_of(file, recipe.sampling.groups) for file in files}
    assert {rule.prefix for rule in ruled.values()} - {""} == {group.prefix for group in recipe.sampling.groups}
    free = {file.split("/")[0] for file, rule in ruled.items() if not rule.prefix}
    assert free == {"principia", "numinamath", "natural_reasoning", "textbookreasoning", "amps_khan"}
    assert ruled["flan/cot_fsopt_data__cot_gsm8k"].max_per_file is None
    assert ruled["flan/niv2_zsopt_data__task1"].max_per_file == 5000
    assert ruled["openmathinstruct2/direct"].max_per_file == 2_000_000


def test_the_recipe_of_hrm_text_without_inputs_has_a_price_and_lists_what_is_missing(tmp_path: Path) -> None:
    path = Path(recipes.__file__).parent / "recipes" / "hrm_text.yaml"
    recipe = recipes.load(str(path), [f"mirror={tmp_path}"])
    answer = plan(recipe)
    assert answer.missing == tuple(sorted(spec.name for spec in recipe.sources)) and not answer.unpriced
    assert abs(answer.tokens / RAW_TOKENS - 1) < 0.01 and abs(answer.rows / RAW_ROWS - 1) < 0.01
    rates = json.loads(RATES_FILE.read_text())["steps"]
    # The recipe has no scores.
    known = [name for name in rates if name != "select" and not name.startswith((TRAIN, MEASURE))]
    assert [step.name for step in answer.steps] == known
    assert all(step.core_hours > 0 and step.memory_gb > 0 for step in answer.steps)
    # Two steps write files of a size that does not grow with the corpus.
    assert {step.name for step in answer.steps if not step.disk_bytes} == {"tokenizer", "training-overlap"}
    # What the project set itself for the whole raw corpus.
    assert answer.core_hours <= 25 and answer.memory_gb < 24 and answer.disk_bytes < 500e9
    assert answer.overlaps["omnimath"] == ("omni_math/test",)
    text = "\n".join(plan_lines(answer))
    assert "warning: source flan contains arc_challenge/train" in text and "missing: SYNTH" in text
    # The tokens of a part are known only for all of its sources together.
    less = recipe.model_copy(update={"sources": tuple(spec for spec in recipe.sources if spec.name != "flan")})
    assert plan(less).unpriced == ("no_robots", "tasksource")


def test_a_price_grows_with_the_inputs_and_has_only_the_steps_of_the_recipe(tmp_path: Path) -> None:
    def priced(rows: int, **more: Any) -> Plan:
        path = write(tmp_path / f"{rows}.jsonl", [{"instruction": "q" * 99, "response": "a" * 99}] * rows)
        sources = [{"name": "mine", "path": str(path), "condition": "direct"}]
        return plan(Recipe.model_validate({"name": "test", "sources": sources, **more}))

    small, large = priced(10_000), priced(40_000)
    for one, other in zip(small.steps, large.steps, strict=True):
        assert one.disk_bytes is not None and other.disk_bytes is not None
        assert 3.5 * one.disk_bytes <= other.disk_bytes <= 4.5 * one.disk_bytes
        assert other.core_hours >= one.core_hours
    assert not small.missing and not small.unpriced
    bare = priced(10, exact_duplicates=False, near_duplicates=False)
    assert [step.name for step in bare.steps] == ["ingest", "tokenizer", "tokens", "pack"]
