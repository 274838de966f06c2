"""The GPU benchmark runs on a CPU with small models, and reports a missing GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.gpu import Way, check_generation, measure, measure_generation, pack_of
from training.model import ModelConfig


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # within the compiler, and harmless
def test_every_way_of_a_step_is_measured_and_gives_the_same_loss() -> None:
    config = ModelConfig(vocab_size=64, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=256)
    ways = [Way(False, "varlen", 1), Way(False, "varlen", 3), Way(True, "varlen", 1)]
    rows = measure(config, ways, torch.device("cpu"), 256, torch.float32, rounds=1, warm=0, backend="eager")
    assert [(row["blocks"], row["packs"]) for row in rows] == [("eager", 1), ("eager", 3), ("compiled", 1)]
    assert all(row["tokens/s"] > 0 and row["MFU, %"] > 0 for row in rows)
    assert rows[0]["loss"] == pytest.approx(rows[2]["loss"], abs=1e-3)


def test_generation_is_measured_and_checked_against_the_cpu() -> None:
    config = ModelConfig(vocab_size=64, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=256)
    rows = measure_generation(config, torch.device("cpu"), batches=(1, 3), prompt=8, answer=5)
    assert [row["sequences together"] for row in rows] == [1, 3]
    assert all(row["tokens/s"] > 0 and row["ms/step"] > 0 for row in rows)
    assert check_generation(torch.device("cpu"))["answers as on the CPU"] == "100%"


def test_a_pack_has_as_many_inputs_as_asked() -> None:
    pack = pack_of(4096, 100, 0)
    assert len(pack.tokens) - len(pack.ids) == 4096
    assert pack.instruction_lengths.min() >= 1 and pack.response_lengths.min() >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.gpu"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1 and "no GPU" in done.stderr
