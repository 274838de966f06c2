"""The perplexity of texts is the loss of training and of transformers, whatever the length, the file and the order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from flows.cli.app import app
from flows.perplexity import PerplexityAnswer, perplexity
from pipelines.errors import InputError, WinnowError
from training import loop
from training.configs import TrainConfig
from training.evaluation.perplexity import Passage, likelihoods, windows
from training.export import to_transformers
from training.inference.generate import TextGenerator, load_text_generator
from training.inference.prompt import token_ids
from training.model import ModelConfig

CONTEXT = 64


@pytest.fixture(scope="module")
def run(shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        name="small", batch_packs=2, steps=3, lr=5e-3, warmup_steps=2, ema_decay=0.5, precision="fp32",
        model=ModelConfig(vocab_size=512, hidden=48, heads=3, feed_forward=128, blocks=1, max_positions=CONTEXT),
    )  # fmt: skip
    loop.train(shards, str(tokenizer), config, str(out))
    return out


@pytest.fixture(scope="module")
def generator(run: Path) -> TextGenerator:
    return load_text_generator(str(run), device="cpu")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    pairs = [(f"What is the sum of {a} and {b}?", str(a + b)) for a in range(5) for b in range(5)]
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
    return path


def test_rows_have_the_loss_of_transformers(run: Path, generator: TextGenerator, rows: Path, tmp_path: Path) -> None:
    exported = to_transformers(str(run), str(tmp_path / "hf"))
    theirs = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    nats, tokens = 0.0, 0
    for line in map(json.loads, rows.read_text().splitlines()):
        prompt = token_ids(generator.prompt("direct", line["question"]))
        ids = [*generator.tokenizer.encode(line["answer"]).ids, generator.special["eoa"]]
        labels = torch.tensor([[-100] * len(prompt) + ids])
        types = torch.tensor([[1] * len(prompt) + [0] * len(ids)])
        with torch.no_grad():
            loss = theirs(input_ids=torch.tensor([prompt + ids]), token_type_ids=types, labels=labels).loss
        nats, tokens = nats + float(loss) * len(ids), tokens + len(ids)
    made = perplexity(str(run), [str(rows)], device="cpu").result
    assert (made.rows, made.tokens, made.windowed) == (25, tokens, 0)
    assert made.nats_per_token.value == pytest.approx(nats / tokens, abs=1e-4)
    assert made.perplexity.value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    again = perplexity(exported, [str(rows)], device="cpu").result
    assert again.nats == pytest.approx(made.nats, rel=1e-5)


def test_windows_measure_every_token_once_given_at_least_half_a_context(generator: TextGenerator) -> None:
    passage = Passage("x", "direct", "Go on.", "What is the sum of 3 and 4? " * 40, False)
    pieces = windows(generator, passage)
    assert not isinstance(pieces, str) and len(pieces) > 5
    ids = generator.tokenizer.encode(passage.text).ids
    assert [token for _, measured in pieces for token in measured] == ids
    instruction = len(token_ids(generator.prompt("direct", "Go on.")))
    start = 0
    for prompt, measured in pieces:
        assert len(token_ids(prompt)) + len(measured) <= generator.context
        given = token_ids(prompt)[instruction:]
        assert given == ids[start - len(given) : start] and (
            start == 0 or len(given) == (generator.context - instruction) // 2
        )
        start += len(measured)
    (made,) = likelihoods(generator, [passage])
    assert not isinstance(made, str) and made.windows == len(pieces) and made.tokens == len(ids)
    each = [generator.runner.log_likelihoods([piece])[0].log_prob for piece in pieces]
    assert made.nats == pytest.approx(-sum(each), rel=1e-5)


def test_the_interval_counts_rows_and_bits_per_byte_count_utf_8(run: Path, tmp_path: Path) -> None:
    texts = ["What is the sum?", "Ärger 你好", "The answer is 7", "zebra"]
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    answer = perplexity(str(run), [str(tmp_path / "texts.csv")], device="cpu", out=str(tmp_path / "rows.parquet"))
    made, table = answer.result, pq.read_table(tmp_path / "rows.parquet")
    assert table["text"].to_pylist() == texts and set(table["instruction"].to_pylist()) == {""}
    nats, tokens = table["nats"].to_numpy(), table["tokens"].to_numpy()
    assert made.bytes == len("".join(texts).encode()) and made.bits_per_byte is not None
    assert made.bits_per_byte.value == pytest.approx(nats.sum() / math.log(2) / made.bytes)
    mean = nats.sum() / tokens.sum()
    error = (4 / 3 * ((nats - mean * tokens) ** 2).sum()) ** 0.5 / tokens.sum()
    low, high = made.nats_per_token.low, made.nats_per_token.high
    assert low is not None and high is not None and (low + high) / 2 == pytest.approx(mean)
    assert (high - low) / 2 > 3 * error  # Student's t with fewer than 3 degrees of freedom
    assert (made.perplexity.low, made.perplexity.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert table["nats_per_token"].to_numpy() == pytest.approx(nats / tokens)


def test_a_text_file_is_one_text_and_the_limit_counts_rows(run: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("The answer is 7. " * 30)
    book = perplexity(str(run), [str(tmp_path / "book.txt")], device="cpu").result
    assert (book.rows, book.windowed, book.nats_per_token.low) == (1, 1, None)
    both = perplexity(str(run), [str(rows), str(tmp_path / "book.txt")], device="cpu", limit=10)
    assert both.result.rows == 10 and both.columns == {str(rows): {"instruction": "question", "response": "answer"}}
    one = perplexity(str(run), text="The answer is 7. " * 30, device="cpu").result
    assert one.nats == pytest.approx(book.nats, rel=1e-6)


def test_what_cannot_be_measured_is_counted_and_mistakes_are_named(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    long = "What is the sum of 3 and 4? " * 40
    lines = [
        {"question": "How many?", "answer": "7"},
        {"question": long, "answer": "7"},
        {"question": None, "answer": "7"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = perplexity(str(run), [str(path)], device="cpu").result
    assert made.rows == 1 and made.skipped == {"instruction longer than the context": 1, "null_instruction": 1}
    (tmp_path / "picture.bin").write_bytes(b"\xff\xd8\x00")
    with pytest.raises(InputError, match=r"picture.bin: neither a format with rows .* nor a text in UTF-8"):
        perplexity(str(run), [str(tmp_path / "picture.bin")])
    with pytest.raises(WinnowError, match="'wild' is not one of direct"):
        perplexity(str(run), [str(path)], condition="wild", device="cpu")
    with pytest.raises(InputError, match="--text: no text can be measured"):
        perplexity(str(run), text="", device="cpu")
    done = CliRunner().invoke(app, ["perplexity", str(run)])
    assert isinstance(done.exception, WinnowError) and "name files, or give a text" in str(done.exception)


def test_the_command_prints_what_it_measured(run: Path, rows: Path) -> None:
    done = CliRunner().invoke(app, ["perplexity", str(run), str(rows), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    for text in (
        "instruction is question, response is answer",
        "25 rows",
        "nats per token  ",
        "95 % interval",
        "bits per byte",
    ):
        assert text in done.stdout
    done = CliRunner().invoke(app, ["perplexity", str(run), str(rows), "--device", "cpu", "--json"])
    answer = PerplexityAnswer.model_validate_json(done.stdout)
    assert answer.result.rows == 25 and np.isfinite(answer.result.nats)
