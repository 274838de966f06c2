"""lm-evaluation-harness on a checkpoint: the numbers are those of the checkpoint itself, whatever the batch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.errors import WinnowError
from training import loop
from training.configs import TrainConfig
from training.inference.generate import TextGenerator, load_text_generator
from training.inference.language_model import Request
from training.inference.prompt import Segment, token_ids
from training.model import ModelConfig

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that lm-eval loads

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{cache_dir: {cache}, data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: {target}
{more}
"""

CHOICE = "output_type: multiple_choice\ndoc_to_choice: '{{choices}}'\nmetric_list: [{metric: acc}, {metric: acc_norm}]"
WRITTEN = """\
output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
"""
ROLLING = """\
output_type: loglikelihood_rolling
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""


@pytest.fixture(scope="module")
def checkpoint(write_packs, sums, tokenizer: Path, tmp_path_factory) -> str:
    """Trained on small sums for a short while, so that it is often but not always right."""
    out = tmp_path_factory.mktemp("lm-eval")
    config = TrainConfig(
        name="small", batch_packs=4,
        model=ModelConfig(vocab_size=512, hidden=64, heads=2, feed_forward=128, blocks=1, max_positions=512),
        lr=6e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", bp_warmup=0,
    )  # fmt: skip
    shards = write_packs(tmp_path_factory.mktemp("long"), sums, context=129, packs_per_shard=8)
    loop.train(shards * 3, str(tokenizer), config, str(out))
    return str(out)


@pytest.fixture(scope="module")
def generator(checkpoint: str) -> TextGenerator:
    return load_text_generator(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def model(generator: TextGenerator) -> Any:
    from training.evaluation.lm_eval import WinnowLM

    return WinnowLM(generator)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Tasks of sums: the right one of four choices, a written answer, and the likelihood of a text."""
    rows = [
        {"question": f"What is the sum of {a} and {b}?", "choices": [str(a + b + d) for d in (1, 0, 2, 5)],
         "answer": str(a + b), "label": 1}
        for a, b in ((3, 4), (9, 9), (0, 5), (7, 6), (2, 2), (8, 1))
    ]  # fmt: skip
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, target, more in (
        ("sums_choice", "label", CHOICE), ("sums_written", "answer", WRITTEN), ("sums_text", '"{{question}}"', ROLLING),
    ):  # fmt: skip
        text = TASK.format(name=name, cache=tmp_path / "cache", data=data, target=target, more=more)
        (folder / f"{name}.yaml").write_text(text.replace('doc_to_text: "{{question}}"', 'doc_to_text: ""')
                                             if name == "sums_text" else text)  # fmt: skip
    return folder


def instance(*args: Any) -> SimpleNamespace:
    return SimpleNamespace(args=args)


PAIRS = [("What is the sum of 3 and 4?", " 7"), ("What is the sum of 9 and 9?", " 18"), ("", " 5"),
         ("What is the sum of 9 and 9? ", "19"), ("the sum <|im_end|> of", " <|box_end|>"), ("a\nb", "x")]  # fmt: skip


def test_loglikelihoods_are_those_of_the_checkpoint_and_do_not_depend_on_the_batch(
    generator: TextGenerator, model: Any
) -> None:
    from training.evaluation.lm_eval import WinnowLM

    requests = [instance(*pair) for pair in PAIRS]
    expected = generator.log_likelihoods([(Request("direct", a.strip()), b.strip()) for a, b in PAIRS])
    for batch in (1, 2, "auto"):
        found = WinnowLM(generator, batch_size=batch).loglikelihood(requests, disable_tqdm=True)
        assert [value for value, _ in found] == pytest.approx([one.log_prob for one in expected], abs=1e-4)
        assert [greedy for _, greedy in found] == [one.is_greedy for one in expected]


def test_the_prompt_is_the_envelope_with_the_condition_and_is_split_from_the_continuation_by_ids(
    generator: TextGenerator, model: Any, special: dict[str, int]
) -> None:
    from training.evaluation.lm_eval import WinnowLM

    context, continuation = "What is", " the sum of"
    prompt, ids = model._encode_pair(context, continuation)
    assert prompt == [special["boq"], special["direct"], *model.tok_encode("What is"), special["eoq"]]
    assert ids == model.tok_encode("the sum of")
    cot = WinnowLM(generator, condition="synth+cot")
    assert cot._encode_pair(context, "x")[0][1:3] == [special["synth"], special["cot"]]
    assert model._encode_pair(context, " ")[1] == model.tok_encode(" ")


def test_a_long_context_loses_its_beginning_and_keeps_its_envelope(
    generator: TextGenerator, special: dict[str, int]
) -> None:
    from training.evaluation.lm_eval import WinnowLM

    short = WinnowLM(generator, max_length=24)
    text = "What is the sum of 3 and 4? " * 9
    prompt, ids = short._encode_pair(text, " 7")
    (segment,) = short._prompt(prompt, 24 - len(ids))
    assert segment == Segment((*prompt[:2], *prompt[-(24 - 2 - len(ids)) :]), True)
    assert len(token_ids((segment,))) + len(ids) == 24
    (value, _), *_ = short.loglikelihood([instance(text, " 7")], disable_tqdm=True)
    expected = generator.runner.log_likelihoods([((segment,), ids)])[0].log_prob
    assert value == pytest.approx(expected, abs=1e-5)
    with pytest.raises(WinnowError, match="does not fit the context of 24"):
        short.loglikelihood([instance("a", text)], disable_tqdm=True)
    (answer,) = short.generate_until([instance(text, {"until": [], "max_gen_toks": 500})], disable_tqdm=True)
    assert len(short.tok_encode(answer)) <= 24


def test_generated_texts_are_those_of_winnow_generate_for_any_batch(generator: TextGenerator) -> None:
    from training.evaluation.lm_eval import WinnowLM

    questions = [f"What is the sum of {a} and {b}?" for a in range(4) for b in range(3)]
    plain = generator.answer(questions, "direct", 8)
    stopped = generator.answer(questions, "direct", 8, stop=["1"])
    assert any(one != other for one, other in zip(plain, stopped, strict=True))
    for batch in (1, 5):
        model = WinnowLM(generator, batch_size=batch)
        requests = [instance(question, {"until": [], "max_gen_toks": 8}) for question in questions]
        requests += [instance(question, {"until": "1", "max_gen_toks": 8}) for question in questions]
        assert model.generate_until(requests, disable_tqdm=True) == [*plain, *stopped]


def test_repetitions_are_samples_of_their_own_that_do_not_depend_on_the_batch(generator: TextGenerator) -> None:
    from training.evaluation.lm_eval import WinnowLM

    settings = {"until": [], "max_gen_toks": 6, "do_sample": True, "temperature": 3.0}
    requests = [instance(f"What is the sum of {a} and 4?", settings) for a in (1, 2) for _ in range(6)]
    one, other = (
        WinnowLM(generator, batch_size=batch).generate_until(requests, disable_tqdm=True) for batch in (1, 12)
    )
    assert one == other
    assert len(set(one[:6])) > 1


def test_a_rolling_likelihood_is_that_of_the_text_as_a_response_and_windows_predict_each_token_once(
    generator: TextGenerator, model: Any
) -> None:
    from training.evaluation.lm_eval import WinnowLM

    text = "What is the sum of 3 and 4? The answer is 7."
    expected = generator.log_likelihoods([(Request("direct", ""), text)])[0].log_prob
    (whole,) = model.loglikelihood_rolling([instance(text)], disable_tqdm=True)
    assert whole == pytest.approx(expected, abs=1e-4)
    short = WinnowLM(generator, max_length=12)
    ids = short.tok_encode(text)
    (windowed,) = short.loglikelihood_rolling([instance(text)], disable_tqdm=True)
    (start,) = generator.prompt("direct", "")
    end = len(ids) - len(ids) % 8
    assert end < len(ids)
    windows = [((start,), ids[:8])]
    windows += [((start, Segment((ids[at - 1],), False)), ids[at : at + 8]) for at in range(8, end, 8)]
    windows.append(((start, Segment(tuple(ids[len(ids) - 9 : end]), False)), ids[end:]))
    by_hand = generator.runner.log_likelihoods(windows)
    assert windowed == pytest.approx(sum(one.log_prob for one in by_hand), abs=1e-3)


def test_tasks_of_local_files_run_and_score_as_the_answers_say(
    generator: TextGenerator, model: Any, tasks: Path
) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    names = ["sums_choice", "sums_written", "sums_text"]
    found = lm_eval.simple_evaluate(model=model, tasks=names, task_manager=manager, bootstrap_iters=0)
    samples = found["samples"]
    docs = [sample["doc"] for sample in samples["sums_written"]]
    answers = generator.answer([doc["question"] for doc in docs], "direct", 8, stop=["\n"])
    assert [sample["resps"][0][0] for sample in samples["sums_written"]] == answers
    right = [answer == doc["answer"] for answer, doc in zip(answers, docs, strict=True)]
    assert found["results"]["sums_written"]["exact_match,none"] == sum(right) / len(right)
    chosen = []
    for doc in docs:
        scores = generator.log_likelihoods([(Request("direct", doc["question"]), text) for text in doc["choices"]])
        values = [one.log_prob for one in scores]
        chosen.append(values.index(max(values)) == doc["label"])
    assert found["results"]["sums_choice"]["acc,none"] == sum(chosen) / len(chosen)
    texts = generator.log_likelihoods([(Request("direct", ""), doc["question"]) for doc in docs])
    total = sum(len(doc["question"].encode()) for doc in docs)
    bits = -sum(one.log_prob for one in texts) / total / 0.6931471805599453
    assert found["results"]["sums_text"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-4)
    assert found["config"]["winnow_condition"] == "direct"


def test_the_command_of_lm_eval_runs_with_the_model(
    checkpoint: str, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from training.evaluation.lm_eval import main

    out = tmp_path / "results"
    monkeypatch.setattr(sys, "argv", ["restored afterwards"])
    main([
        "run", "--model", "winnow", "--model_args", f"pretrained={checkpoint},condition=direct,precision=fp32",
        "--device", "cpu", "--batch_size", "4", "--include_path", str(tasks), "--tasks", "sums_written",
        "--output_path", str(out), "--limit", "3",
    ])  # fmt: skip
    assert "|sums_written|" in capsys.readouterr().out
    (written,) = out.rglob("results_*.json")
    stored = json.loads(written.read_text())
    assert stored["config"]["model"] == "winnow"
    assert stored["n-samples"]["sums_written"]["effective"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"condition": "fast"}, "'fast' is not one of"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"weights": "last"}, "weights=last"),
        ({"max_length": 2}, "max_length=2"),
    ],
)
def test_a_wrong_argument_is_refused(generator: TextGenerator, arguments: dict[str, Any], message: str) -> None:
    from training.evaluation.lm_eval import WinnowLM

    with pytest.raises(WinnowError, match=message):
        WinnowLM(generator, **arguments)


def test_a_chat_template_is_refused_because_the_envelope_is_on_already(model: Any) -> None:
    with pytest.raises(WinnowError, match="apply_chat_template"):
        model.chat_template(True)
