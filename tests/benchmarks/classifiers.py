"""Scores trained on words: speed, what they find on rows of other sources, and whether people agree.

The ratings are never trained on, except in the table that says cross-validation: five parts, rows with the same
question in one. Subjects are tested on sources and evaluation items that are not trained on.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.scores import linear
from filters.scores.classifier import Classifier
from filters.scores.corruption import corrupt
from filters.scores.features import tokens
from filters.scores.holdout import auc, auc_within, spearman
from filters.scores.subject import Subject
from pipelines.benchmarks import BENCHMARKS
from pipelines.records import conform
from pipelines.sources import SOURCES
from tests.benchmarks.__main__ import Row
from tests.benchmarks.filters import cpu_seconds

FILES = {
    "gsm8k": ("gsm8k", "gsm8k_train.jsonl"),
    "math": ("math", "math_train.parquet"),
    **{
        name: ("flan_cot", f"flan_cot/{name}_train.tsv")
        for name in ("aqua", "creak", "ecqa", "qasc", "sensemaking", "strategyqa")
    },
    "t0": ("t0_p3", "t0_p3_50k.jsonl.gz"),
    "boolq": ("boolq", "boolq_train.json"),
    "openbookqa": ("openbookqa", "openbookqa_train.json"),
    "arc": ("arc_challenge", "arc_challenge_train.json"),
    "codegen": ("gpteacher", "gpteacher/codegen-instruct.json"),
    "roleplay": ("gpteacher", "gpteacher/roleplay-simple-deduped-roleplay-instruct.json"),
    "mawps": ("mawps_asdiv_svamp", "mawps_asdiv_svamp_train.csv"),
    "aime": ("deepscaler_aime", "deepscaler_aime_train.json"),
    "theoremqa": ("theoremqa", "theoremqa.json"),
    "rg_asdiv": ("reasoning_gym_eval", "reasoning_traces/rg_asdiv.jsonl"),
    "rg_gsm8k": ("reasoning_gym_eval", "reasoning_traces/rg_gsm8k.jsonl"),
    "rg_svamp": ("reasoning_gym_eval", "reasoning_traces/rg_svamp.jsonl"),
    "rg_tabmwp": ("reasoning_gym_eval", "reasoning_traces/rg_tabmwp.jsonl"),
}
ERRORS = ("agreement", "article", "confusion", "drop", "ending", "repeat", "spelling", "swap")
GRAMMAR = ("creak", "ecqa", "qasc", "strategyqa", "codegen", "roleplay", "t0")
GRAMMAR_UNSEEN = ("math", "sensemaking", "gsm8k", "rg_asdiv")
EDUCATION = {
    "positives": ("math", "gsm8k", "qasc", "ecqa", "strategyqa", "aqua", "openbookqa"),
    "negatives": ("t0", "roleplay", "boolq"),
}
SUBJECTS = {
    "maths": ("gsm8k", "math", "aqua"),
    "code": ("codegen",),
    "prose": ("t0", "boolq", "creak", "ecqa", "qasc", "sensemaking", "strategyqa", "openbookqa"),
    "dialogue": ("roleplay",),
}
UNSEEN = {
    **dict.fromkeys(("mawps", "aime", "theoremqa", "rg_asdiv", "rg_gsm8k", "rg_svamp", "rg_tabmwp"), "maths"),
    "arc": "prose",
}
ITEMS = {
    "humaneval": ("HumanEval.jsonl.gz", "code"),
    "piqa": ("piqa_test.json", "prose"),
    "siqa": ("social_i_qa_test.json", "prose"),
    "winogrande": ("winogrande_test.json", "prose"),
    "drop": ("drop_v0_dev.jsonl.gz", "prose"),
}
PER_SOURCE = 3_000
"""Rows of each source, by their digests."""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables. Without real data there is nothing to measure."""
    if data is None:
        return {}
    sources = {name: _source(data / "sources", name) for name in FILES}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model"))
        return {
            "Speed": _speeds(sources, path),
            "Facets": _facets(data, sources, path),
            "People: share of pairs in which the preferred answer has the higher score": _pairs(data, sources, path),
            "People: answers marked right, by cross-validation": _marked(data),
            "Subject": _subjects(data, sources, path),
        }


def read_source(data: Path, name: str) -> pa.Table:
    """The records of a source in `FILES`, in order of their digests, with its name as `source`."""
    return _source(data / "sources", name)


def grammar(trainer: str) -> Classifier:
    """The score `grammar` of the tables."""
    return Classifier.model_validate({"name": "grammar", "positives": "a", "errors": ERRORS, "trainer": trainer})


def education(trainer: str, on: str = "response") -> Classifier:
    """The score `education` of the tables."""
    given = {"name": "education", "positives": "a", "negatives": "b", "trainer": trainer, "on": on}
    return Classifier.model_validate(given)


def _source(folder: Path, name: str) -> pa.Table:
    adapter, file = FILES[name]
    raw = pa.concat_tables(SOURCES[adapter].read(str(folder / file)))
    records = conform(raw.drop_columns(["task"]) if "task" in raw.column_names else raw, name, name).kept
    return _by_digest(records)


def _by_digest(records: pa.Table) -> pa.Table:
    return records.take(pc.sort_indices(records["digest"].cast(pa.binary()))).combine_chunks()


def training_rows(sources: dict[str, pa.Table], labels: dict[str, tuple[str, ...]], most: int) -> pa.Table:
    """Rows to train on, in order of their digests: of each source at most `most`."""
    tables = [
        sources[name].slice(0, most).append_column("label", pa.array([label] * min(most, sources[name].num_rows)))
        for label, names in labels.items()
        for name in names
    ]
    return _by_digest(pa.concat_tables(tables))


def _speeds(sources: dict[str, pa.Table], path: str) -> list[Row]:
    text = sources["t0"]
    size = sum(text[name].nbytes for name in ("instruction", "response"))
    labels = {"positive": EDUCATION["positives"], "negative": EDUCATION["negatives"]}
    rows = training_rows(sources, labels, PER_SOURCE)
    table: list[Row] = []
    for trainer in ("fasttext", "logistic"):
        score = education(trainer, "both")
        start = time.process_time()
        score.train(rows, path)
        seconds = time.process_time() - start
        table.append(
            {
                "score": f"classifier, {trainer}",
                "MB/s per core": size / 1e6 / cpu_seconds(lambda score=score: score.measure(text, path)),  # type: ignore[misc]
                "training rows": rows.num_rows,
                "training CPU s": seconds,
                "model MB": Path(path).stat().st_size / 1e6,
            }
        )
    subject, start = _subject("fasttext", "both"), time.process_time()
    subject_rows = training_rows(sources, SUBJECTS, 1_000)
    subject.train(subject_rows, path)
    table.append(
        {
            "score": "subject, fasttext, both fields",
            "MB/s per core": size / 1e6 / cpu_seconds(lambda: subject.measure(text, path)),
            "training rows": subject_rows.num_rows,
            "training CPU s": time.process_time() - start,
            "model MB": Path(path).stat().st_size / 1e6,
        }
    )
    return table


def _facets(data: Path, sources: dict[str, pa.Table], path: str) -> list[Row]:
    """Held-out rows of the same sources, and for grammar rows of other sources."""
    table: list[Row] = []
    grammar_rows = training_rows(sources, {"positive": GRAMMAR}, PER_SOURCE)
    unseen = pa.concat_tables([sources[name].slice(0, 1_000) for name in GRAMMAR_UNSEEN])
    for trainer in ("fasttext", "logistic"):
        score = grammar(trainer)
        measured = score.train(grammar_rows, path)
        texts = unseen["response"].to_pylist()
        pairs = [(text, wrong) for text in texts if (wrong := corrupt(text, ERRORS)) != text]
        both = [text for column in zip(*pairs, strict=True) for text in column]
        found = _scores(score, _records(["?"] * len(both), both), path)
        table.append(
            {
                "facet": "grammar",
                "trainer": trainer,
                **measured,
                "other sources: auc": auc(np.arange(len(both)) < len(pairs), found),
                "pairs right": float(np.mean(found[: len(pairs)] > found[len(pairs) :])),
            }
        )
    labels = {"positive": EDUCATION["positives"], "negative": EDUCATION["negatives"]}
    rows = training_rows(sources, labels, PER_SOURCE)
    table += [
        {"facet": "education", "trainer": trainer, **education(trainer).train(rows, path)}
        for trainer in ("fasttext", "logistic")
    ]
    return table


def _pairs(data: Path, sources: dict[str, pa.Table], path: str) -> list[Row]:
    """The share of pairs in which the answer that people prefer has the higher score."""
    pairs = {"PandaLM": pandalm(data), "MT-bench": mt_bench(data)}
    labels = {"positive": EDUCATION["positives"], "negative": EDUCATION["negatives"]}
    table: list[Row] = []
    for name, rated in pairs.items():
        questions, first, second = (list(column) for column in zip(*((q, a, b) for q, a, b, _ in rated), strict=True))
        better = np.array([best == 1 for *_, best in rated])
        lengths = np.array([[len(a), len(b)] for a, b in zip(first, second, strict=True)], np.float64)
        alike = np.abs(np.diff(np.log(np.maximum(lengths, 1)), axis=1)[:, 0]) < 0.2
        columns = {"length": lengths.T}
        for trainer in ("fasttext", "logistic"):
            for score, rows in (
                (grammar(trainer), training_rows(sources, {"positive": GRAMMAR}, PER_SOURCE)),
                (education(trainer), training_rows(sources, labels, PER_SOURCE)),
            ):
                score.train(rows, path)
                columns[f"{score.name}, {trainer}"] = np.stack(
                    [_scores(score, _records(questions, side), path) for side in (first, second)]
                )
        for what, mask in (("all", np.ones(len(rated), np.bool_)), ("lengths within 20 %", alike)):
            row: Row = {"ratings": name, "pairs": what, "count": int(mask.sum())}
            for column, (a, b) in columns.items():
                row[column] = float(np.mean(np.where(a == b, 0.5, (a > b) == better)[mask]))
            table.append(row)
    return table


def pandalm(data: Path) -> list[tuple[str, str, str, int]]:
    """Question, two answers, and which of them (1 or 2) at least two of three annotators prefer."""
    pairs = []
    for row in json.loads((data / "ratings/pandalm_human.json").read_text(encoding="utf-8")):
        votes = [row[f"annotator{n}"] for n in (1, 2, 3)]
        question = f"{row['instruction']}\n{row['input']}".strip()
        pairs += [
            (question, str(row["response1"]), str(row["response2"]), best) for best in (1, 2) if votes.count(best) > 1
        ]
    return pairs


def mt_bench(data: Path) -> list[tuple[str, str, str, int]]:
    """Question, two answers, and which of them (1 or 2) people prefer."""
    rows = json.loads((data / "ratings/mt_bench_human.json").read_text(encoding="utf-8"))
    return [(row["input"], row["output_1"], row["output_2"], row["label"]) for row in rows]


def _marked(data: Path) -> list[Row]:
    """HaluEval (no hallucination) and GSM8K (right): by n-grams of each field, and by embeddings."""
    table: list[Row] = []
    for name, rows, question, answer, right in (
        (
            "HaluEval",
            _lines(data / "ratings/halueval_general.jsonl"),
            "user_query",
            "chatgpt_response",
            "hallucination",
        ),
        ("GSM8K", _lines(data / "ratings/gsm8k_model_solutions.jsonl"), "question", "solution", "is_correct"),
    ):
        records = _records([str(row[question]) for row in rows], [str(row[answer]) for row in rows])
        positive = np.array([row[right] in ("no", True) for row in rows])
        length = np.asarray(pc.utf8_length(records["response"])).astype(np.float64)
        questions = np.array(records["instruction"].to_pylist(), np.str_)
        baseline: Row = {"ratings": name, "answers": len(rows), "right": float(positive.mean())}
        by_length = auc(positive, length)
        signed = -length if by_length < 0.5 else length
        alone: Row = {"auc": auc(positive, signed)}
        if name == "GSM8K":
            alone["auc within a question"] = auc_within(positive, signed, questions)
        table.append({**baseline, "by": "length alone", **alone})
        fits: list[tuple[str, str, Callable[..., npt.NDArray[np.float64]]]] = [
            ("fasttext", "instruction", _fit_linear("fasttext")),
            ("fasttext", "response", _fit_linear("fasttext")),
            ("fasttext", "both", _fit_linear("fasttext")),
            ("logistic", "both", _fit_linear("logistic")),
            ("wordllama embeddings", "both", _fit_embeddings),
        ]
        for by, on, fit in fits:
            scores = _cross_validated(records, positive, on, fit)
            table.append(
                {
                    **baseline,
                    "by": f"{by}, {on}",
                    "auc": auc(positive, scores),
                    "auc within a question": auc_within(positive, scores, questions) if name == "GSM8K" else "",
                    "spearman with length": spearman(scores, length),
                }
            )
    return table


def _cross_validated(
    records: pa.Table, positive: npt.NDArray[np.bool_], on: str, fit: Callable[..., npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    part = np.array(
        [hashlib.blake2b(text.encode(), digest_size=2).digest()[0] % 5 for text in records["instruction"].to_pylist()]
    )
    scores = np.zeros(len(positive))
    for number in range(5):
        out = part == number
        train, test = records.filter(pa.array(~out)), records.filter(pa.array(out))
        scores[out] = fit(train, positive[~out], test, on)
    return np.nan_to_num(scores)


def _fit_linear(trainer: linear.Trainer) -> Callable[..., npt.NDArray[np.float64]]:
    def fit(train: pa.Table, positive: npt.NDArray[np.bool_], test: pa.Table, on: str) -> npt.NDArray[np.float64]:
        model = linear.train(tokens(train, on), positive.astype(np.int64), 2, trainer, 1 << 19)  # type: ignore[arg-type]
        return linear.logits(model, tokens(test, on))[:, 0]  # type: ignore[arg-type]

    return fit


def _fit_embeddings(
    train: pa.Table, positive: npt.NDArray[np.bool_], test: pa.Table, on: str
) -> npt.NDArray[np.float64]:
    """Logistic regression over the mean embedding of each field."""
    from sklearn.linear_model import LogisticRegression

    inputs, outputs = _embed(train), _embed(test)
    fitted = LogisticRegression(C=10, class_weight="balanced", max_iter=500).fit(inputs, positive)
    scores: npt.NDArray[np.float64] = fitted.decision_function(outputs)
    return scores


def _embed(records: pa.Table) -> npt.NDArray[np.float64]:
    """The mean of wordllama's vectors of the tokens of each field, of length 1: float64 [rows, 512]."""
    import wordllama
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(wordllama.__file__).parent
    (vectors,) = load_file(folder / "weights/l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    fields = []
    for name in ("instruction", "response"):
        texts = [text[:4_000] for text in records[name].to_pylist()]
        ids = [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]
        means = np.array([vectors[one].astype(np.float64).mean(axis=0) if one else np.zeros(256) for one in ids])
        fields.append(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9))
    return 2 * np.concatenate(fields, axis=1)


def _subjects(data: Path, sources: dict[str, pa.Table], path: str) -> list[Row]:
    """The share of rows that get the subject of their source, for sources and items that were not trained on."""
    tests = {name: (sources[name].slice(0, 2_000), label) for name, label in UNSEEN.items()}
    tests |= {name: (_items(data, name, file), label) for name, (file, label) in ITEMS.items()}
    tests |= {f"mmlu: {subject}": (table, label) for subject, table, label in _mmlu(data)}
    rows = training_rows(sources, SUBJECTS, 1_000)
    columns: dict[str, dict[str, float]] = {}
    for trainer, on in (("fasttext", "instruction"), ("fasttext", "both"), ("logistic", "instruction")):
        score = _subject(trainer, on)
        score.train(rows, path)
        columns[f"{trainer}, {on}"] = {
            name: float(np.mean([said == label for said in score.measure(table, path)["subject"].to_pylist()]))
            for name, (table, label) in tests.items()
        }
    table: list[Row] = [
        {"source": name, "rows": rows_of.num_rows, "subject": label, **{key: one[name] for key, one in columns.items()}}
        for name, (rows_of, label) in tests.items()
    ]
    for label in ("maths", "prose", "code"):
        mine = [name for name, (_, said) in tests.items() if said == label]
        means = {key: float(np.mean([one[name] for name in mine])) for key, one in columns.items()}
        table.append({"source": f"mean of {len(mine)}", "subject": label, **means})
    return table


def _subject(trainer: str, on: str) -> Subject:
    return Subject.model_validate({"labels": {label: label for label in SUBJECTS}, "trainer": trainer, "on": on})


def _items(data: Path, name: str, file: str) -> pa.Table:
    read = BENCHMARKS[name].read
    assert read
    return _asked(read([str(path) for path in sorted((data / "benchmarks").glob(file))]))


def _mmlu(data: Path) -> list[tuple[str, pa.Table, str]]:
    read = BENCHMARKS["mmlu"].read
    assert read
    maths, prose = r"abstract_algebra|mathematics", r"anatomy|astronomy|biology|nutrition|sociology|religions|marketing"
    found: dict[str, list[str]] = {"maths": [], "prose": []}
    for path in sorted((data / "benchmarks/mmlu/test").glob("*.csv")):
        for label, names in (("maths", maths), ("prose", prose)):
            if re.search(names, path.name):
                found[label].append(str(path))
    return [(label, _asked(read(paths)), label) for label, paths in found.items()]


def _asked(items: pa.Table) -> pa.Table:
    questions = [
        "\n".join(filter(None, [item["passage"], item["question"], *item["choices"]])) for item in items.to_pylist()
    ]
    return _records(questions, items["answer"].to_pylist())


def _records(instructions: list[str], responses: list[str]) -> pa.Table:
    return pa.table({"instruction": pa.array(instructions, pa.string()), "response": pa.array(responses, pa.string())})


def _scores(score: Classifier, records: pa.Table, path: str) -> npt.NDArray[np.float64]:
    return np.nan_to_num(score.measure(records, path).column(0).to_numpy().astype(np.float64))


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").strip().split("\n")]
