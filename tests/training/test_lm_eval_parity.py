"""With lm-eval's protocol, Winnow's tasks ask the same prompts and give the same scores, on real items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.benchmarks.lm_eval_parity import FILES, FORMS, PROTOCOLS, judged_by_harness, parity, read_items
from training.evaluation.task import Answer
from training.evaluation.tasks import TASKS
from training.inference.checkpoint_model import CheckpointModel
from training.inference.generate import TextGenerator, read_tokenizer
from training.inference.runner import Runner
from training.model import HrmText, ModelConfig

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that lm-eval loads


@pytest.fixture(scope="module")
def model(tokenizer: Path, special: dict[str, int]) -> CheckpointModel:
    """An untrained model with room for the prompts of real items."""
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=320, hidden=32, heads=1, feed_forward=64, blocks=1, max_positions=4096)
    generator = TextGenerator(Runner(HrmText(config)), read_tokenizer(str(tokenizer)), special, 4096)
    return CheckpointModel(generator, "untrained")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_prompts_answers_and_scores_are_those_of_lm_eval(
    name: str, model: CheckpointModel, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared_data / "benchmarks" / FILES[name]).exists():
        pytest.skip("no real items")
    protocol = PROTOCOLS[name]
    monkeypatch.setitem(
        PROTOCOLS, name, protocol._replace(task=protocol.task._replace(shots=min(protocol.task.shots, 2)))
    )
    items = read_items(shared_data, name, limit=4)
    shots = read_items(shared_data, "gsm8k", "../sources/gsm8k_train.jsonl", 2)
    for row in parity(name, items, shots, model):
        assert row["prompts equal"] == row["answers equal"] == 4, row
        assert row["scores that differ"] == 0, row


def test_answers_in_a_box_are_wrong_by_lm_evals_hendrycks_math_and_decimals_are_cut_by_its_drop(
    shared_data: Path,
) -> None:
    if not (shared_data / "benchmarks" / FILES["math"]).exists():
        pytest.skip("no real items")
    items = read_items(shared_data, "math", limit=3)
    boxed = [FORMS["math"]["`$\\boxed{a}$`"](item) for item in items]
    assert judged_by_harness("math", items, boxed)["exact_match"] == [0, 0, 0]
    strict = TASKS["math"].scorers[1]
    assert [one.score for one in strict.judge([Answer(text, 0, "stop") for text in boxed], items)] == [1, 1, 1]
    decimals = [one for one in read_items(shared_data, "drop", limit=60) if "." in one["answer"].split("|")[0]][:2]
    assert decimals
    answers = [item["answer"].split("|")[0] for item in decimals]
    assert judged_by_harness("drop", decimals, answers)["em"] == [0] * len(decimals)
    em = TASKS["drop"].scorers[1]
    assert all(one.score == 1 for one in em.judge([Answer(text, 0, "stop") for text in answers], decimals))
