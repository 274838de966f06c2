"""The GPU benchmark runs on a CPU with small models, and reports a missing GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.gpu import (
    Way,
    check_generation,
    check_parts,
    compare_curves,
    measure,
    measure_generation,
    pack_of,
    start_curve_on_cpu,
    train_curve,
    write_copies,
)
from training import loop, parallel
from training.batches import Layout, in_micro_batches
from training.model import ModelConfig, build


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # within the compiler, and harmless
def test_every_way_of_a_step_is_measured_and_gives_the_same_loss() -> None:
    config = ModelConfig(vocab_size=64, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=256)
    ways = [Way(False, "groups", 1), Way(False, "groups", 3, micro=2, recompute=True), Way(True, "groups", 1)]
    rows = measure(config, ways, torch.device("cpu"), 256, torch.float32, rounds=1, warm=0, backend="eager")
    assert [(row["blocks"], row["packs"], row["notes"]) for row in rows] == [
        ("eager", "1", ""), ("eager", "3 by 2", "recompute"), ("compiled", "1", ""),
    ]  # fmt: skip
    assert all(row["tokens/s"] > 0 and row["MFU, %"] > 0 for row in rows)
    assert rows[0]["loss"] == pytest.approx(rows[2]["loss"], abs=1e-3)


@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own code
def test_one_graph_serves_every_block_and_batch_of_flex_attention() -> None:
    config = ModelConfig(vocab_size=64, hidden=64, heads=2, feed_forward=64, blocks=2, max_positions=256)
    compiled, plain = build(config, 0), build(config, 0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    parallel.compile_blocks(compiled, whole=True, backend="eager")
    for seed in range(3):
        packs = [pack_of(250 + seed, 64, seed)]
        outs = []
        for model, kernel in ((compiled, "flex"), (plain, "groups")):
            (batch,) = in_micro_batches(packs, Layout(1, kernel=kernel), 256)
            with torch.no_grad():
                attend = loop.BatchAttention(batch)
                outs.append(model(batch.tokens_N, batch.positions_N, attend, 5, batch.rows_M))
        torch.testing.assert_close(*outs, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_fused_operations_are_checked_and_curves_are_compared(tmp_path: Path) -> None:
    assert len(check_parts(torch.device("cpu"))) == 3
    write_copies(tmp_path, 4)
    process = start_curve_on_cpu(tmp_path, 2)
    here = train_curve(tmp_path, "fp32", 2)
    assert json.loads(process.communicate()[0]) == pytest.approx(here, rel=1e-5)
    assert compare_curves({"a": here * 10, "b": here * 10})[-1]["a"] == "0.0000"


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
