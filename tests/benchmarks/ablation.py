"""`python -m tests.benchmarks.ablation FOLDER`: recipes of a known answer for `winnow ablate`.

The demo's corpus with a source of planted noise, whose responses belong to other instructions of the same family, and
without it. Whoever trains on fewer wrong answers must do better. The commands are printed.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import yaml

from pipelines.recipe import recipe_path
from pipelines.settings import parse_document
from pipelines.sources.generated import TASKS
from pipelines.sources.generated.rows import clean

FAMILIES = ("generated_kinds", "generated_numbers", "generated_word_problems")
SEED = 7
"""Of the planted rows. The demo's own have seed 0, so the two share no draw."""


def planted(rows: int) -> list[dict[str, str]]:
    """Rows with the answers of others, in equal parts of each family."""
    found = []
    for name in FAMILIES:
        drawn = [clean(TASKS[name], SEED, number) for number in range(rows // len(FAMILIES))]
        answers = [row.response or "" for row in drawn]
        random.Random(SEED).shuffle(answers)
        found += [
            {"condition": row.condition, "instruction": row.instruction or "", "response": answer}
            for row, answer in zip(drawn, answers, strict=True)
        ]
    return found


def write(folder: Path, rows: int) -> None:
    """Write noise.jsonl, noisy.yaml, clean.yaml and unfiltered.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "noise.jsonl").open("w", encoding="utf-8") as file:
        for row in planted(rows):
            print(json.dumps(row), file=file)
    demo = parse_document(Path(recipe_path("demo")).read_bytes()).value
    columns = {name: name for name in ("condition", "instruction", "response")}
    source = {"name": "planted", "path": "noise.jsonl", "columns": columns}
    recipes = {
        "clean": demo,
        "noisy": {**demo, "sources": [*demo["sources"], source]},
        "unfiltered": {**demo, "stages": []},
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**recipe, "name": name}, sort_keys=False), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=6000, help="planted rows")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.rows)
    print(f"winnow ablate {arguments.folder}/noisy.yaml {arguments.folder}/clean.yaml --random --benchmark generated")
    print(f"winnow ablate {arguments.folder}/unfiltered.yaml {arguments.folder}/clean.yaml --random --length")
