"""Properties of the scores that a recipe trains on words: `classifier` and `subject`."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.scores import features, linear
from filters.scores.classifier import Classifier
from filters.scores.corruption import corrupt
from filters.scores.features import MAX_BYTES, tokens, word_keys
from filters.scores.holdout import auc, auc_within, match_lengths
from filters.scores.subject import Subject
from pipelines.sources import SOURCES

ERRORS = ("agreement", "article", "confusion", "drop", "ending", "repeat", "spelling", "swap")
WORDS = {
    "good": ["because", "therefore", "first", "then", "so", "each", "total", "equals", "explain", "step"],
    "bad": ["lol", "whatever", "dunno", "meh", "stuff", "thing", "click", "buy", "now", "cheap"],
    "any": [
        "the",
        "a",
        "of",
        "to",
        "in",
        "cat",
        "dog",
        "house",
        "tree",
        "river",
        "walks",
        "runs",
        "sees",
        "12",
        "7",
        ".",
    ],
}


def rows(seed: int = 0, count: int = 600, good_words: int = 30, bad_words: int = 30) -> pa.Table:
    """Rows with a label, as a trained score gets them: positives with some good words, negatives with some bad ones."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        label = ("positive", "negative")[number % 2]
        kind, size = ("good", good_words) if number % 2 == 0 else ("bad", bad_words)
        words = [chance.choice(WORDS[kind if chance.random() < 0.2 else "any"]) for _ in range(size)]
        made.append(
            {
                "id": f"s/{number}",
                "source": f"source{number % 3}",
                "condition": "direct",
                "instruction": f"Question {number}: {chance.choice(WORDS['any'])}?",
                "response": " ".join(words),
                "label": label,
            }
        )
    return pa.Table.from_pylist(made)


def records(*responses: str, instruction: str = "What?") -> pa.Table:
    return pa.table({"instruction": [instruction] * len(responses), "response": pa.array(responses, pa.string())})


def classifier(**given: object) -> Classifier:
    return Classifier.model_validate(
        {"name": "quality", "positives": "a", "negatives": "b", "buckets": 1 << 14, **given}
    )


def scores(score: Classifier, table: pa.Table, model: Path) -> np.ndarray:
    return score.measure(table, str(model)).column(0).to_numpy()


@pytest.fixture(scope="module", params=["fasttext", "logistic"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path, dict]:
    score, path = classifier(trainer=request.param), tmp_path_factory.mktemp("model") / "model"
    return score, path, score.train(rows(), str(path))


def test_positives_score_above_negatives_on_rows_that_were_not_trained_on(
    trained: tuple[Classifier, Path, dict],
) -> None:
    score, path, measured = trained
    other = rows(seed=1)
    positive = np.array(other["label"].to_pylist()) == "positive"
    assert measured["auc"] > 0.95
    assert auc(positive, scores(score, other, path).astype(np.float64)) > 0.95
    assert measured["rows_positive"] == measured["rows_negative"] == 300


def test_zero_is_even_odds(trained: tuple[Classifier, Path, dict]) -> None:
    score, path, _ = trained
    other = rows(seed=1)
    positive = np.array(other["label"].to_pylist()) == "positive"
    values = scores(score, other, path)
    assert np.mean(values[positive] > 0) > 0.85 and np.mean(values[~positive] < 0) > 0.85


def test_equal_rows_train_equal_bytes_in_another_process(
    trained: tuple[Classifier, Path, dict], tmp_path: Path
) -> None:
    score, path, _ = trained
    program = (
        "import sys; from tests.filters.scores.test_classifier import classifier, rows;"
        "classifier(trainer=sys.argv[1]).train(rows(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", program, score.trainer, str(tmp_path / "model")], check=True)
    score.train(rows(), str(tmp_path / "again"))
    assert path.read_bytes() == (tmp_path / "model").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_score_depends_on_the_record_alone(trained: tuple[Classifier, Path, dict]) -> None:
    score, path, _ = trained
    table = rows(seed=2, count=60)
    whole = scores(score, table, path)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(scores(score, table.take(order), path), whole[order])
    np.testing.assert_array_equal(np.concatenate([scores(score, table.slice(n, 1), path) for n in range(60)]), whole)


def test_a_text_without_known_words_has_no_score(trained: tuple[Classifier, Path, dict]) -> None:
    score, path, _ = trained
    assert score.measure(records("", "qqzzx", "the cat"), str(path)).column(0).is_valid().to_pylist() == [
        False,
        False,
        True,
    ]


def test_scores_of_certain_rows_differ(trained: tuple[Classifier, Path, dict]) -> None:
    score, path, _ = trained
    texts = [" ".join(["because therefore step"] * 10 + ["the cat"] * n) for n in range(10)]
    values = scores(score, records(*texts), path)
    assert len(set(values.tolist())) == 10
    assert values[0] == values.max()


def test_the_number_of_a_feature_is_that_of_fasttext(tmp_path: Path) -> None:
    import fasttext

    table = rows(count=200)
    texts = tokens(table, "response")
    lines = texts[0].to_pylist()
    file = tmp_path / "rows.txt"
    file.write_text("".join(f"__label__{n % 2} {line}\n" for n, line in enumerate(lines)), encoding="utf-8")
    model = fasttext.train_supervised(str(file), dim=4, minCount=2, wordNgrams=2, bucket=1 << 10, thread=1, verbose=0)
    ended = [pa.array([f"{line}</s> " for line in lines], pa.large_string())]  # fastText adds a token for the end
    numbers, ends = features.number(ended, 2, 1 << 10, word_keys(model.get_words()))
    vectors = model.get_input_matrix()
    for row, line in enumerate(lines[:50]):
        own = numbers[ends[row] : ends[row + 1]]
        np.testing.assert_allclose(vectors[own].mean(axis=0), model.get_sentence_vector(line), atol=1e-6)


def test_a_model_that_is_read_has_the_same_outputs(tmp_path: Path) -> None:
    table = rows(count=400)
    texts = tokens(table, "response")
    labels = np.array([label == "positive" for label in table["label"].to_pylist()], np.int64)
    model = linear.train(texts, labels, 2, "fasttext", 1 << 14)
    linear.write(model, str(tmp_path / "model"))
    read = linear.read(str(tmp_path / "model"))
    assert read.about == model.about
    np.testing.assert_array_equal(linear.logits(read, texts), linear.logits(model, texts))
    assert auc(labels == 1, linear.logits(model, texts)[:, 0]) > 0.99


def test_length_is_not_learned(tmp_path: Path) -> None:
    chance = random.Random(0)
    table = rows(count=2000)
    texts = [" ".join(chance.choices(WORDS["any"], k=60 if n % 2 else 12)) for n in range(2000)]
    table = table.set_column(4, "response", pa.array(texts))
    measured = classifier().train(table, str(tmp_path / "model"))
    assert measured["auc_length"] > 0.99
    assert abs(measured["auc"] - 0.5) < 0.1


def test_matched_texts_have_the_same_lengths() -> None:
    texts = tokens(rows(count=400, good_words=10, bad_words=50), "response")[0]
    positive = np.arange(400) % 2 == 0
    cut = match_lengths(texts, positive)
    lengths = np.array([len(text) for text in cut.to_pylist()])
    assert abs(lengths[positive].mean() - lengths[~positive].mean()) < 5
    assert all(long.startswith(short) for long, short in zip(texts.to_pylist(), cut.to_pylist(), strict=True))


def test_words_of_the_instruction_and_of_the_response_are_told_apart() -> None:
    table = pa.table({"instruction": ["Add 12 and 3!"], "response": ["Don't:\n\n  é x_1 1234567"]})
    instruction, response = tokens(table, "both")
    assert instruction.to_pylist() == ["_add _00 _and _0 _! "]
    assert response.to_pylist() == ["don't : ¶ ¶ >> é x _ 0 0000 "]
    assert tokens(table, "instruction")[0].to_pylist() == ["add 00 and 0 ! "]


def test_tokens_are_valid_text_for_any_input_and_read_to_the_same_byte() -> None:
    chance = random.Random(0)
    alphabet = [
        "a",
        "Z",
        "'",
        " ",
        "\n",
        "\t",
        "7",
        "!",
        "_",
        "é",
        "ß",
        "“",
        "中",
        "あ",
        "🙂",
        "한",
        "\u00a0",
        "\ufeff",
    ]
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(40))) for _ in range(2000)]
    for text in tokens(records(*texts), "response")[0].to_pylist():
        assert text == "" or (text.endswith(" ") and "  " not in text)
    long = "é" * 5 + "ab 中" * MAX_BYTES
    cut = long.encode()[:MAX_BYTES].decode(errors="ignore")
    assert tokens(records(long), "response")[0] == tokens(records(cut), "response")[0]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_the_same_for_the_same_text_and_few(error: str) -> None:
    text = "The teachers explain that their students are learning to add a number, and it was easier then for them."
    made = corrupt(text, [error])
    assert made == corrupt(text, [error]) != text
    assert len(set(made.split()) - set(text.split())) <= 2
    assert corrupt("Too short.", [error]) == "Too short."


def test_negatives_are_made_of_the_positives(tmp_path: Path) -> None:
    text = "The teacher explains that the students are learning to add a number and they have to be quick in the house."
    made = [
        {**row, "response": f"{text} {row['response']}", "label": "positive"} for row in rows(count=400).to_pylist()
    ]
    score = classifier(negatives=None, errors=ERRORS, trainer="logistic")
    measured = score.train(pa.Table.from_pylist(made), str(tmp_path / "model"))
    assert measured["auc"] > 0.8
    assert measured["rows_negative"] == measured["rows_positive"] == 400
    good, bad = scores(score, records(text, corrupt(text, ["agreement"])), tmp_path / "model")
    assert good > bad


def test_a_label_with_too_few_rows_is_named(tmp_path: Path) -> None:
    few = pa.concat_tables([rows(count=400).filter(pa.array([n % 2 == 0 for n in range(400)])), rows(count=40)])
    with pytest.raises(ValueError, match="label 'negative' has 20 rows, it needs 50; choose more rows"):
        classifier().train(few, str(tmp_path / "model"))
    same = rows(count=400).set_column(3, "instruction", pa.array(["Same?"] * 400))
    with pytest.raises(ValueError, match="same few instructions"):
        classifier().train(same, str(tmp_path / "model"))


def test_a_classifier_needs_negatives_or_errors() -> None:
    with pytest.raises(ValueError, match="`negatives` are missing"):
        Classifier.model_validate({"name": "grammar", "positives": "a"})
    assert list(classifier(negatives=None, errors=["drop"]).training) == ["positive"]


def test_the_auc_of_the_source_alone_is_that_of_the_labels_it_has(tmp_path: Path) -> None:
    table = rows()
    apart = table.set_column(1, "source", pa.array([f"from-{label}" for label in table["label"].to_pylist()]))
    measured = classifier().train(apart, str(tmp_path / "model"))
    assert measured["auc_source"] == 1 and "auc_within_source" not in measured
    together = classifier().train(table, str(tmp_path / "model"))
    assert abs(together["auc_source"] - 0.5) < 0.15 and together["auc_within_source"] > 0.9


def test_texts_that_are_remembered_are_not_measured(tmp_path: Path) -> None:
    """40 answers, each with a label by chance, come under 20 questions each; 1,000 others have labels by chance too."""
    chance = random.Random(5)
    answers = [" ".join(chance.choices(WORDS["any"], k=30)) for _ in range(1040)]
    labels = [chance.choice(["positive", "negative"]) for _ in answers]
    base = {"source": "s", "condition": "direct"}
    made = [
        {**base, "id": f"s/{n}", "instruction": f"Question {n}?", "response": answers[a], "label": labels[a]}
        for n, a in enumerate([*range(1000), *[1000 + n % 40 for n in range(800)]])
    ]
    measured = classifier(trainer="logistic").train(pa.Table.from_pylist(made), str(tmp_path / "model"))
    assert measured["rows_held_out"] > 300 and 150 < measured["rows_measured"] < 250
    assert abs(measured["auc"] - 0.5) < 0.12


def test_auc_counts_pairs() -> None:
    positive = np.array([True, False, True, False])
    values = np.array([2.0, 1.0, 1.0, 0.0])
    assert auc(positive, values) == (1 + 1 + 0.5 + 1) / 4
    assert auc_within(positive, values, np.array(["a", "a", "b", "b"])) == 1
    assert np.isnan(auc_within(positive, values, np.array(["a", "b", "a", "b"])))


def test_a_subject_is_the_label_whose_words_a_text_has(tmp_path: Path) -> None:
    table = rows(count=600)
    told = [{"positive": "maths", "negative": "chat"}[label] for label in table["label"].to_pylist()]
    odd = pa.Table.from_pylist(
        [
            {**row, "label": "code", "response": f"def f{n}(x): return x", "instruction": f"Code {n}"}
            for n, row in enumerate(rows(count=200).to_pylist())
        ]
    )
    table = pa.concat_tables([table.set_column(5, "label", pa.array(told)), odd])
    score = Subject.model_validate(
        {"labels": {"maths": "a", "chat": "b", "code": "c"}, "on": "response", "buckets": 1 << 12}
    )
    measured = score.train(table, str(tmp_path / "model"))
    assert measured["accuracy"] > 0.9 and measured["rows_code"] == 200
    texts = records("therefore each total equals 12", "lol whatever dunno", "def g(x): return", "")
    assert score.measure(texts, str(tmp_path / "model")).to_pydict() == {"subject": ["maths", "chat", "code", None]}
    two = Subject.model_validate({"labels": {"maths": "a", "chat": "b"}, "on": "response", "buckets": 1 << 12})
    two.train(table.slice(0, 600), str(tmp_path / "two"))
    assert two.measure(texts.slice(0, 2), str(tmp_path / "two"))["subject"].to_pylist() == ["maths", "chat"]


def test_single_errors_are_found_in_real_texts(shared_data: Path, tmp_path: Path) -> None:
    """Trained on answers of FLAN's strategyqa and creak, the score finds errors in answers of qasc."""
    read = [
        pa.concat_tables(SOURCES["flan_cot"].read(str(shared_data / f"sources/flan_cot/{name}_train.tsv")))
        for name in ("strategyqa", "creak", "qasc")
    ]
    texts = [table.select(["instruction", "response"]).drop_null().slice(0, 4000).combine_chunks() for table in read]
    made = [row | {"source": "flan", "label": "positive"} for table in texts[:2] for row in table.to_pylist()]
    made.sort(key=lambda row: hashlib.blake2b(row["instruction"].encode()).digest())
    score = Classifier.model_validate({"name": "grammar", "positives": "a", "errors": ERRORS, "trainer": "logistic"})
    measured = score.train(pa.Table.from_pylist(made), str(tmp_path / "model"))
    assert measured["auc"] > 0.7
    good = [text for text in texts[2]["response"].to_pylist() if corrupt(text, ERRORS) != text]
    bad = [corrupt(text, ERRORS) for text in good]
    values = scores(score, records(*good, *bad), tmp_path / "model").astype(np.float64)
    assert auc(np.arange(len(values)) < len(good), values) > 0.65
