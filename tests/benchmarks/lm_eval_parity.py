"""Winnow's tasks against those of lm-evaluation-harness: prompts, answers and scores, item by item, on real items.

- With lm-eval's protocol: three tasks of lm-eval run on a small checkpoint through `--model winnow`, and the same
  protocol as a `Task`. Prompts, answers and scores must be equal for every item.
- By rule: recorded answers, made of the right ones in the forms that models write, are judged by lm-eval and by the
  published and strict scores of Winnow. Where they differ, the cause is said, with the number of items.

WINNOW_CHECKPOINT names another checkpoint; without it, a small one is trained on GSM8K and ARC for two minutes and
kept in winnow-data/benchmarks.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.benchmarks import BENCHMARKS
from training.evaluation.choices import by_likelihood
from training.evaluation.task import Answer, Item, Judgement, Scorer, Task, each
from training.evaluation.tasks import TASKS
from training.inference.language_model import LanguageModel, Request

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "winnow-data" / "benchmarks" / "lm-eval"
ITEMS = 50
SHOTS = 5
STEPS = 60
"""Of the small training."""

FILES = {
    "gsm8k": "gsm8k_test.jsonl",
    "arc_challenge": "arc_challenge_test.json",
    "drop": "drop_v0_dev.jsonl.gz",
    "math": "math_test.parquet",
}

Row = dict[str, object]


def bench(data: Path | None) -> dict[str, list[Row]] | list[Row]:
    """Parity with lm-eval's protocol, then scores of recorded answers, then why they differ."""
    if data is None:
        return [{"result": "no real data"}]
    from training.inference.checkpoint_model import load_checkpoint_model

    model = load_checkpoint_model(os.environ.get("WINNOW_CHECKPOINT") or _train(data), device="cpu")
    items = {name: read_items(data, name) for name in FILES}
    shots = read_items(data, "gsm8k", "../sources/gsm8k_train.jsonl", SHOTS)
    rows = [row for name in PROTOCOLS for row in parity(name, items[name], shots, model)]
    scores, causes = recorded(items)
    return {
        f"lm-eval's protocol on the first {ITEMS} items of each, {model.name.rpartition('benchmarks/')[2]}": rows,
        f"Recorded answers to the first {ITEMS} items of each: share that is right": scores,
        "Why lm-eval and Winnow's published score differ on recorded answers": causes,
    }


def read_items(data: Path, name: str, path: str = "", limit: int = ITEMS) -> list[dict[str, Any]]:
    """The first items of a benchmark. Those of GSM8K have their whole solution in `details`."""
    file = data / "benchmarks" / (path or FILES[name])
    read = BENCHMARKS[name].read
    assert read is not None
    rows: list[dict[str, Any]] = read([str(file)]).slice(0, limit).to_pylist()
    if name == "gsm8k":
        with file.open(encoding="utf-8") as lines:
            rows = [row | {"details": {"solution": json.loads(line)["answer"]}} for row, line in zip(rows, lines)]  # noqa: B905
    return rows


def _train(data: Path) -> str:
    """The checkpoint of a small training on GSM8K and ARC; made once."""
    from tests.trainings import train_on
    from training.folders import find_checkpoint

    if not (FOLDER / "training").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        sources = data / "sources"
        recipe = RECIPE.format(gsm8k=sources / "gsm8k_train.jsonl", arc=sources / "arc_challenge_train.json")
        train_on(FOLDER, recipe, STEPS, STEPS)
    return find_checkpoint("latest", str(FOLDER))


RECIPE = """\
name: lm-eval
sources:
  - {{name: gsm8k_train, adapter: gsm8k, path: "{gsm8k}"}}
  - {{name: arc_train, adapter: arc_challenge, path: "{arc}"}}
stages: []
contamination: {{benchmarks: [{{name: generated, rows: 20}}]}}
tokenizer: {{vocab_size: 4096}}
sampling: {{epochs: 1, context: 2049}}
"""


# ------------------------------------------------------------------------------------------------- lm-eval's protocol


class Protocol(NamedTuple):
    """One of lm-eval's tasks: its file, rows of items as its data set has them, more keys, and the same as a Task.

    metrics: name in lm-eval -> scorer of the Task.
    """

    file: str
    row: Callable[[Item], dict[str, Any]]
    task: Task
    metrics: Mapping[str, str]
    keys: str = ""


def _arc_row(item: Item) -> dict[str, Any]:
    labels = list("ABCDE"[: len(item["choices"])])
    key = labels[item["choices"].index(item["answer"])]
    return {"question": item["question"], "choices": {"text": item["choices"], "label": labels}, "answerKey": key}


def _drop_row(item: Item) -> dict[str, Any]:
    first, *others = item["answer"].split("|")
    date = {"day": "", "month": "", "year": ""}
    return {
        "query_id": item["id"],
        "passage": item["passage"],
        "question": item["question"],
        "answer": {"number": "", "date": date, "spans": [first]},
        "validated_answers": {
            "number": ["" for _ in others],
            "date": [date for _ in others],
            "spans": [[other] for other in others],
        },
    }


def _gsm8k_prompt(item: Item, shots: Sequence[Item]) -> str:
    solved = [f"Question: {shot['question']}\nAnswer: {shot['details']['solution']}\n\n" for shot in shots]
    return "".join([*solved, f"Question: {item['question']}\nAnswer:"])


_IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")


def _gsm8k_normal(text: str) -> str:
    for pattern in _IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


def _gsm8k_scorer(name: str, pattern: str, which: int) -> Scorer:
    def judge(text: str, item: Item) -> Judgement:
        found = [match[0] for match in re.finditer(pattern, text)]
        answer = found[which].removeprefix("#### ").strip() if found else "[invalid]"
        return Judgement(float(_gsm8k_normal(answer) == _gsm8k_normal(item["answer"])), bool(found), answer)

    return Scorer(name, 1, each(judge))


PROTOCOLS = {
    "gsm8k": Protocol(
        "gsm8k/gsm8k.yaml",
        lambda item: {"question": item["question"], "answer": item["details"]["solution"]},
        TASKS["gsm8k"]._replace(
            condition="direct",
            prompt=_gsm8k_prompt,
            shots=SHOTS,
            stop=("Question:", "</s>", "<|im_end|>"),
            max_tokens=256,
            scorers=(
                _gsm8k_scorer("strict-match", r"#### (\-?[0-9\.\,]+)", 0),
                _gsm8k_scorer("flexible-extract", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1),
            ),
        ),
        {"exact_match,strict-match": "strict-match", "exact_match,flexible-extract": "flexible-extract"},
        "fewshot_config: {sampler: first_n}\n",
    ),
    "arc_challenge": Protocol(
        "arc/arc_challenge.yaml",
        _arc_row,
        by_likelihood(TASKS["arc_challenge"])._replace(
            prompt=lambda item, shots: f"Question: {item['question']}\nAnswer:", shots=0
        ),
        {"acc,none": "acc", "acc_norm,none": "acc_norm"},
    ),
    "drop": Protocol(
        "drop/default.yaml",
        _drop_row,
        TASKS["drop"]._replace(
            prompt=lambda item, shots: f"{item['passage']} {item['question']}".strip(),
            shots=0,
            stop=(".",),
            max_tokens=256,
        ),
        {"f1,none": "published", "em,none": "em"},
    ),
}


def parity(name: str, items: Sequence[Item], shots: Sequence[Item], model: Any) -> list[Row]:
    """One row per metric: lm-eval's task and ours with its protocol, on the same model, item by item."""
    from training.evaluation.lm_eval import WinnowLM

    protocol = PROTOCOLS[name]
    task = protocol.task
    results = harness(name, items, shots[: task.shots], WinnowLM(model.generator, condition=task.condition))
    prompts = [task.prompt(item, shots[: task.shots]) for item in items]
    answers = ask(model, task, items, prompts)
    samples = results["samples"][f"winnow_{name}"]
    by_filter = {key: [one for one in samples if one["filter"] == key] for key in {one["filter"] for one in samples}}
    rows: list[Row] = []
    for metric, scorer_name in protocol.metrics.items():
        key, _, chosen = metric.partition(",")
        theirs = sorted(by_filter[chosen], key=lambda one: one["doc_id"])
        (scorer,) = [scorer for scorer in task.scorers if scorer.name == scorer_name]
        ours = scorer.judge(answers, items)
        given = [one["arguments"][0][0].strip() for one in theirs]
        if task.continuations:
            same = [
                all(
                    abs(float(resp[0][0]) - value) < 1e-3
                    for resp, value in zip(one["resps"], mine.log_probs, strict=True)
                )
                for one, mine in zip(theirs, answers, strict=True)
            ]
        else:
            same = [one["resps"][0][0] == mine.text for one, mine in zip(theirs, answers, strict=True)]
        values = [float(one[key]) for one in theirs]
        differ = [a for a, b in zip(values, ours, strict=True) if abs(a - b.score) > 1e-9]
        rows.append(
            {
                "task": name,
                "metric": metric,
                "items": len(items),
                "prompts equal": sum(a == b for a, b in zip(given, prompts, strict=True)),
                "answers equal": sum(same),
                "lm-eval": sum(values) / len(values),
                "Winnow": sum(one.score for one in ours) / len(ours),
                "scores that differ": len(differ),
            }
        )
    return rows


def ask(model: LanguageModel, task: Task, items: Sequence[Item], prompts: Sequence[str]) -> list[Answer]:
    """The answers of a model, by likelihood or written, as `winnow evaluate` asks for them."""
    requests = [Request(task.condition, prompt) for prompt in prompts]
    if task.continuations is None:
        completions = model.generate(requests, max_tokens=task.max_tokens, stop=task.stop)
        return [Answer(one.text, one.tokens, one.finish, one.log_prob) for (one,) in completions]
    answers = []
    for request, item in zip(requests, items, strict=True):
        found = model.log_likelihoods([(request, text) for text in task.continuations(item)])
        answers.append(Answer("", 0, "stop", log_probs=tuple(one.log_prob for one in found)))
    return answers


def harness(name: str, items: Sequence[Item], shots: Sequence[Item], model: Any, file: str = "") -> dict[str, Any]:
    """What lm-eval answers for its own task, whose data set is replaced by items in a local file."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    protocol = PROTOCOLS.get(name)
    row = protocol.row if protocol else _math_row
    path = Path(lm_eval.__file__).parent / "tasks" / (protocol.file if protocol else file)
    shot_number = protocol.task.shots if protocol else 0
    with tempfile.TemporaryDirectory(prefix="winnow-lm-eval-") as folder:
        files = {"test": items, "validation": items, "train": shots or items}
        paths = {split: f"{folder}/{split}.jsonl" for split in files}
        for split, rows in files.items():
            lines = "".join(json.dumps(row(item)) + "\n" for item in rows)
            Path(paths[split]).write_text(lines, encoding="utf-8")
        task = Path(folder, "task.yaml")
        task.write_text(
            f"include: {path}\ntask: winnow_{name}\ndataset_path: json\ndataset_name: null\n"
            f"dataset_kwargs: {{cache_dir: {folder}/cache, data_files: {json.dumps(paths)}}}\n"
            + (protocol.keys if protocol else ""),
            encoding="utf-8",
        )
        manager = TaskManager(include_path=folder, include_defaults=False)
        results: dict[str, Any] = lm_eval.simple_evaluate(
            model=model, tasks=[f"winnow_{name}"], task_manager=manager, num_fewshot=shot_number, bootstrap_iters=0,
            cache_requests=False,
        )  # fmt: skip
    return results


# --------------------------------------------------------------------------------------------------- recorded answers


def _math_row(item: Item) -> dict[str, Any]:
    return {"problem": item["question"], "solution": f"\\boxed{{{item['answer']}}}"}


def _gold(item: Item) -> str:
    """The final number of a GSM8K item, or the first accepted answer."""
    return str(item["answer"].rpartition("####")[2].strip().split("|")[0])


FORMS: dict[str, dict[str, Callable[[Item], str]]] = {
    "gsm8k": {
        "the gold solution, which ends in `#### n`": lambda item: str(item["details"]["solution"]),
        "`\\boxed{n}`": lambda item: f"So there are \\boxed{{{_gold(item)}}}.",
        "`n` alone": _gold,
        "`The answer is n.`": lambda item: f"The answer is {_gold(item)}.",
        "`\\boxed{n}`, then a check with other numbers": lambda item: f"\\boxed{{{_gold(item)}}}. Check: 2 + 2 = 4.",
        "wrong: `\\boxed{n.5}`": lambda item: f"\\boxed{{{_gold(item)}.5}}",
    },
    "drop": {
        "the gold answer": _gold,
        "the gold answer and a full stop": lambda item: f"{_gold(item)}.",
        "the gold answer, whole numbers as `n.0`": lambda item: (
            f"{_gold(item)}.0" if _gold(item).isdigit() else _gold(item)
        ),
        "`The answer is` and the gold answer": lambda item: f"The answer is {_gold(item)}",
    },
    "math": {
        "`$\\boxed{a}$`": lambda item: f"Thus the answer is $\\boxed{{{item['answer']}}}$.",
        "`$a$`": lambda item: f"Thus the answer is ${item['answer']}$.",
        "`a` alone": lambda item: str(item["answer"]),
        "a step between dollars, then `$\\boxed{a}$`": lambda item: (
            f"With $x = 1$ it is $\\boxed{{{item['answer']}}}$."
        ),
    },
}

CAUSES = {
    "gsm8k": {
        "strict-match": "lm-eval's strict filter wants `#### n`, which a model learns from the five shots. HRM-Text is "
        "asked without shots and answers in a box",
        "flexible-extract": "lm-eval's flexible filter takes the last number. HRM-Text's rule takes the last box, else "
        "the whole text, and rounds towards 0: n.5 counts as n, and prose around n is invalid",
    },
    "drop": {
        "f1": "lm-eval's task stops at the first `.`, so a decimal or an abbreviation is cut. HRM-Text's answers end "
        "with the end token",
        "em": "as f1",
    },
    "math": {
        "exact_match": "lm-eval's task reads from the first dollar to the last and never a box, and compares "
        "normalised strings. HRM-Text reads the last box and compares with math-verify, to which `\\sqrt{2}` without "
        "dollars is no expression; Winnow's strict score reads both",
    },
}


def recorded(items: Mapping[str, Sequence[Item]]) -> tuple[list[Row], list[Row]]:
    """Rows of scores by benchmark and form of the answers, and rows of causes with the number of items."""
    scores: list[Row] = []
    causes: dict[tuple[str, str], list[str]] = {}
    for name, forms in FORMS.items():
        for form, write in forms.items():
            answers = [write(item) for item in items[name]]
            theirs = judged_by_harness(name, items[name], answers)
            ours = {
                scorer.name: [
                    one.score for one in scorer.judge([Answer(text, 0, "stop") for text in answers], items[name])
                ]
                for scorer in TASKS[name].scorers
            }
            row: Row = {"benchmark": name, "answers": form}
            row |= {f"lm-eval {metric}": sum(values) / len(values) for metric, values in theirs.items()}
            row |= {f"Winnow {metric}": sum(values) / len(values) for metric, values in ours.items()}
            scores.append({key: value if isinstance(value, str) else f"{value:.2f}" for key, value in row.items()})
            for metric, values in theirs.items():
                mine = ours["em" if metric == "em" else "published"]
                differ = [item["id"] for item, a, b in zip(items[name], values, mine, strict=True) if abs(a - b) > 1e-9]
                causes.setdefault((name, metric), []).extend(differ)
    rows: list[Row] = [
        {
            "benchmark": name,
            "lm-eval's metric": metric,
            "judgements that differ": len(ids),
            "of": ITEMS * len(FORMS[name]),
            "first item": ids[0] if ids else "",
            "cause": CAUSES[name][metric],
        }
        for (name, metric), ids in causes.items()
    ]
    return scores, rows


def judged_by_harness(name: str, items: Sequence[Item], answers: Sequence[str]) -> dict[str, list[float]]:
    """Metric or filter of lm-eval's task -> the score of each answer, which is cut at the task's stop strings."""
    from lm_eval.api.model import LM

    class Recorded(LM):  # type: ignore[misc]
        """A model that gives recorded answers."""

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            texts = []
            for request in requests:
                text = answers[request.doc_id]
                for stop in request.args[1]["until"]:
                    text = text.split(stop)[0]
                texts.append(text)
            return texts

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    results = harness(name, items, items[:SHOTS], Recorded(), "hendrycks_math/hendrycks_math_algebra.yaml")
    found: dict[str, list[float]] = {}
    for sample in sorted(results["samples"][f"winnow_{name}"], key=lambda one: one["doc_id"]):
        for metric in sample["metrics"]:
            label = metric if sample["filter"] == "none" else sample["filter"]
            found.setdefault(label, []).append(float(sample[metric]))
    return found
