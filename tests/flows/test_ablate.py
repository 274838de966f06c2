"""An ablation of two small recipes, from their files to the verdict."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.ablate import AblateAnswer, Cost, Design, ablate, search_mixture
from flows.ablation_report import html, markdown
from flows.build import build
from flows.forget import forget
from flows.gc import gc
from pipelines.audit.forget import Selection
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import ScoreWriter

MICRO = ("model.hidden=32", "model.heads=1", "model.feed_forward=64", "model.blocks=1", "batch_packs=2", "bp_warmup=1")
DESIGN = Design(settings=MICRO, tokens=64 * 2 * 4, seeds=2, share=0.2, rows=60)
RECIPE = """
name: {name}
sources:
  - {{name: sums, path: sums.jsonl, columns: {{instruction: q, response: a}}, condition: direct}}
  - {{name: lists, path: lists.jsonl, columns: {{instruction: q, response: a}}, condition: direct}}
stages: {stages}
near_duplicates: false
tokenizer: {{vocab_size: 600}}
sampling: {{context: {context}, epochs: 1}}
"""
COMMAND = """
import sys
from pathlib import Path
from tests.flows.test_ablate import run
if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], 2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ablate")
    with (place / "sums.jsonl").open("w") as file:
        for n in range(300):
            print(json.dumps({"q": f"What is {n} + {n % 7}?", "a": str(n + n % 7)}), file=file)
    with (place / "lists.jsonl").open("w") as file:
        for n in range(200):
            print(json.dumps({"q": f"Count from {n}.", "a": " ".join(str(n + i) for i in range(n % 9 + 2))}), file=file)
    recipes = {"all": "[]", "short": "[{kind: length, max_chars: 40}]"}
    for name, stages in recipes.items():
        (place / f"{name}.yaml").write_text(RECIPE.format(name=name, stages=stages, context=65))
    (place / "wide.yaml").write_text(RECIPE.format(name="wide", stages="[urls]", context=129))
    groups = RECIPE.format(name="groups", stages="[]", context=65).replace(
        "epochs: 1", "epochs: 1, groups: [{prefix: sums}, {prefix: lists}]"
    )
    (place / "groups.yaml").write_text(groups)
    (place / "again.yaml").write_text(RECIPE.format(name="again", stages="[]", context=65))
    return place


def run(folder: Path, root: str, workers: int) -> AblateAnswer:
    recipes = [str(folder / "all.yaml"), str(folder / "short.yaml")]
    return ablate(recipes, random=True, length=True, root=str(folder / root), design=DESIGN, workers=workers)


@pytest.fixture(scope="module")
def answer(folder: Path) -> AblateAnswer:
    return run(folder, "root", 1)


def test_every_recipe_has_its_controls_with_the_same_tokens_within_one_row(answer: AblateAnswer) -> None:
    assert [arm.name for arm in answer.arms] == ["all", "short", "short: random", "short: longest"]
    tokens = [arm.tokens for arm in answer.arms]
    assert tokens[1] < tokens[0]
    assert all(tokens[1] - 65 < control <= tokens[1] for control in tokens[2:])
    assert answer.arms[1].changes == ("+ length",)


def test_no_arm_is_trained_on_a_row_that_judges_it(folder: Path, answer: AblateAnswer) -> None:
    (texts,) = (folder / "root/ablations/texts").glob("*.parquet")
    judging = set(storage.read_parquet(str(texts))["id"].to_pylist())
    assert len(judging) == answer.held_out_rows[0] >= 40
    assert answer.trained_on == 0
    for packs in (folder / "root/steps").glob("pack-*/row_fates/*.parquet"):
        fates = storage.read_parquet(str(packs))
        assert not np.any(np.asarray(fates["held_out"]) & (np.asarray(fates["draws"]) > 0))
    drawn = {name for packs in (folder / "root/steps").glob("pack-*") for name in _packed(packs)}
    assert drawn and not drawn & judging


def _packed(step: Path) -> set[str]:
    """Ids of the rows in the training packs of a step."""
    found: set[str] = set()
    for path in (step / "shards").glob("*.arrow"):
        table = storage.map_arrow(str(path))
        if json.loads(table.schema.metadata[b"winnow"])["split"] == "train":
            found |= {name for pack in table["ids"].to_pylist() for name in pack}
    return found


def test_all_trainings_have_the_same_number_of_tokens(folder: Path, answer: AblateAnswer) -> None:
    journals = list((folder / "root/ablations/proxies").glob("*/metrics.jsonl"))
    assert len(journals) == len(answer.arms) * answer.seeds
    inputs = []
    for path in journals:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == answer.steps == 4
        inputs.append(sum(line["inputs"] for line in lines))
    assert max(inputs) <= answer.tokens and min(inputs) > 0.9 * answer.tokens


def test_the_answer_compares_each_recipe_with_the_first_and_with_its_controls(answer: AblateAnswer) -> None:
    tested = {(one.arm, one.against) for one in answer.effects if one.adjusted_p_value is not None}
    assert tested == {("short", "all"), ("short", "short: random"), ("short", "short: longest")}
    assert {one.group for one in answer.effects} >= {"", "sums"}
    (conclusion,) = answer.conclusions
    assert conclusion.arm == "short" and conclusion.verdict in ("shown to help", "shown to hurt", "not shown to help")
    assert all(one.low <= one.difference <= one.high for one in answer.effects)


def test_the_answer_is_stored_with_a_page_that_has_every_arm(answer: AblateAnswer) -> None:
    stored = storage.read_json(f"{answer.folder}/ablation.json")
    assert AblateAnswer.model_validate(stored) == answer
    page = Path(answer.report).read_text(encoding="utf-8")
    assert page == html(answer)
    assert all(arm.name in page and arm.name in markdown(answer) for arm in answer.arms)
    assert all(one.verdict in page for one in answer.effects)


def test_a_control_is_a_run_whose_rows_are_in_the_ledger(folder: Path, answer: AblateAnswer) -> None:
    recorded = open_run(str(folder / "root"), answer.arms[2].run)
    subset = recorded.step("subset")
    assert subset is not None and subset.reasons == {"subset/not_in_subset": subset.rows_dropped}


def test_latest_is_the_last_run_that_is_no_arm_of_an_ablation(folder: Path, answer: AblateAnswer) -> None:
    root = str(folder / "root")
    assert open_run(root, "latest").info["arm"]  # there is no other
    built = build(str(folder / "all.yaml"), root=root, engine="local", workers=1)
    assert open_run(root, "latest").id == built.run
    assert open_run(root, answer.arms[2].run).info["arm"]


@pytest.mark.fault("kill -9 of an ablation", "carries on to the same numbers")
def test_a_killed_ablation_carries_on_and_workers_do_not_change_a_number(folder: Path, answer: AblateAnswer) -> None:
    shutil.copytree(folder / "root", folder / "killed", ignore=shutil.ignore_patterns("proxies"))
    script = folder / "command.py"
    script.write_text(COMMAND)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = subprocess.Popen(
        [sys.executable, str(script), str(folder), "killed"], env=environment, stderr=subprocess.DEVNULL
    )
    finished: list[Path] = []
    while not finished and command.poll() is None:
        time.sleep(0.05)
        finished = list((folder / "killed/ablations/proxies").glob("*/likelihoods-*.parquet"))
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert finished, "no training finished before the command ended"
    before = {path: path.stat().st_mtime_ns for path in finished}
    again = run(folder, "killed", 1)
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert again.means == answer.means and again.effects == answer.effects and again.key == answer.key


def test_a_search_trains_mixtures_and_verifies_its_proposal_with_other_seeds(folder: Path) -> None:
    found = search_mixture(str(folder / "groups.yaml"), 8, root=str(folder / "root"), design=DESIGN, workers=1)
    assert found.search.groups == ("sums", "lists") and len(found.search.losses) == 8
    assert np.allclose([sum(mixture) for mixture in found.search.mixtures], 1)
    assert len(set(found.search.losses)) > 1
    if found.verification is None:
        assert found.search.proposal is None and max(fit.r2 for fit in found.search.fits) <= 0
    else:
        assert [arm.name for arm in found.verification.arms] == ["groups", "proposal"]
        assert found.recipe is not None and "max_per_file" in Path(found.recipe).read_text()


def test_the_cost_is_told_before_and_nothing_is_trained_without_consent(folder: Path, answer: AblateAnswer) -> None:
    costs: list[Cost] = []

    def decline(cost: Cost) -> bool:
        costs.append(cost)
        return False

    recipes = [str(folder / "all.yaml"), str(folder / "short.yaml")]
    more = DESIGN._replace(seeds=3)
    with pytest.raises(RunError, match="not started"):
        ablate(recipes, root=str(folder / "root"), design=more, workers=1, confirm=decline)
    (cost,) = costs
    assert (cost.arms, cost.seeds, cost.steps, cost.finished) == (2, 3, 4, 4)
    assert cost.seconds is not None and cost.seconds > 0


@pytest.mark.parametrize(
    ("names", "design", "message"),
    [
        (["all"], DESIGN, "at least two recipes"),
        (["all", "wide"], DESIGN, "sampling.context is 129"),
        (["all", "again"], DESIGN, "the same recipe as"),
        (["all", "short"], DESIGN._replace(seeds=1), "--seeds 1"),
        (["all", "short"], DESIGN._replace(share=0.001), "raise --held-out"),
    ],
)
def test_what_cannot_be_compared_is_named(folder: Path, names: list[str], design: Design, message: str) -> None:
    with pytest.raises(WinnowError, match=message):
        ablate([str(folder / f"{name}.yaml") for name in names], root=str(folder / "root"), design=design, workers=1)


def test_a_control_larger_than_the_first_corpus_is_refused(folder: Path) -> None:
    recipes = [str(folder / "short.yaml"), str(folder / "all.yaml")]
    with pytest.raises(WinnowError, match="name the recipe with the larger corpus first"):
        ablate(recipes, random=True, root=str(folder / "root"), design=DESIGN, workers=1)


def test_a_forgotten_row_is_found_in_what_an_ablation_left_and_gc_removes_its_texts(
    folder: Path, answer: AblateAnswer, tmp_path: Path
) -> None:
    root = str(shutil.copytree(folder / "root", tmp_path / "root"))
    texts = min(Path(root, "ablations/texts").glob("*.parquet"))  # a search of another test has left more
    row = storage.read_parquet(str(texts)).to_pylist()[0]["id"]
    scores = ScoreWriter(root, "mine", {"of": "this test"})
    scores.finish(pa.table({"id": [row, "another"], "mine": [0.5, 0.25]}))
    listed = forget(Selection(ids=(row,)), run=answer.arms[0].run, root=root)
    assert texts.name in [Path(name).name for name in listed.held_out]
    assert list(listed.scores) == [f"scores/{Path(scores.folder).name}"]
    done = forget(Selection(ids=(row,)), run=answer.arms[0].run, root=root, apply=True, workers=1)
    gc(root, dry_run=False)
    assert not texts.exists()
    assert [proof.forgotten for proof in done.proofs] == [1] * len(listed.runs)
