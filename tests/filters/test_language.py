"""Language: verdicts, the shortcut for English, and the error without a model."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import filters.language
from filters.language import Language, find_model, function_words

LANGUAGES = {
    "en": "What is the capital of the country that lies between these two rivers and how large is it?",
    "fr": "Quelle est la capitale du pays qui se trouve entre ces deux fleuves, et quelle est sa taille ?",
    "de": "Was ist die Hauptstadt des Landes, das zwischen diesen beiden Flüssen liegt, und wie groß ist es?",
    "es": "¿Cuál es la capital del país que se encuentra entre estos dos ríos y qué tamaño tiene?",
    "it": "Qual è la capitale del paese che si trova tra questi due fiumi e quanto è grande?",
    "nl": "Wat is de hoofdstad van het land dat tussen deze twee rivieren ligt en hoe groot is het?",
    "ru": "Какая столица у страны, которая лежит между этими двумя реками, и насколько она велика?",
    "zh": "位于这两条河流之间的国家的首都是什么？它有多大？请用几句话详细回答这个问题，并且说明你的理由和依据。",
}


def table(texts: list[str]) -> pa.Table:
    return pa.table({"instruction": pa.array(texts, pa.string()), "response": pa.array([""] * len(texts), pa.string())})


@pytest.mark.parametrize("wanted", LANGUAGES)
def test_only_the_wanted_language_is_kept(wanted: str) -> None:
    kept = Language(languages=(wanted,)).judge(table(list(LANGUAGES.values()))).is_null().to_pylist()
    assert kept == [language == wanted for language in LANGUAGES]


def test_line_feeds_and_odd_bytes_are_no_error() -> None:
    verdicts = Language(min_chars=0).judge(table(["two\nlines\r\nof\x00text\t", "", "\n", "é\u2028\x85"]))
    assert len(verdicts) == 4


def test_tags_of_tokens_are_no_language() -> None:
    dice = random.Random(4)
    named = ("B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"), ("PER", "LOC", "ORG"), ("B-geo", "I-geo", "B-tim")
    tags = [
        " ".join(dice.choice(names) if dice.random() < 0.25 else "O" for _ in range(length))
        for names in named
        for length in (12, 25, 40, 80)
        for _ in range(20)
    ]
    assert Language().judge(table(tags)).null_count == len(tags)
    repeated = [LANGUAGES[code] * 3 for code in ("fr", "de", "ru")] + ["NOUS SOMMES ICI POUR VOUS AIDER ET POUR PARLER"]
    assert Language().judge(table(repeated)).null_count == 0


def test_only_the_beginning_is_read() -> None:
    long = LANGUAGES["en"] * 5
    assert Language().judge(table([long + LANGUAGES["ru"] * 50])).null_count == 1


def test_function_words_are_counted_by_their_share() -> None:
    shares = function_words(pa.array(["the cat", "THE AND", "", "кот", "theses", "it's the 3 of them"]))
    np.testing.assert_allclose(shares, [0.5, 1, 0, 0, 0, 3 / 5])


def test_the_shortcut_for_plain_english_changes_no_verdict(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data / "sources" / "boolq_train.json"
    rows = json.loads(path.read_text(encoding="utf-8"))[:2_000]
    texts = [row["instruction"] for row in rows] + [row["response"] for row in traces(shared_data)]
    mixed = [(LANGUAGES["en"][:cut], other) for other in LANGUAGES.values() for cut in (0, 20, 40, 60, 80)]
    records = pa.table(
        {
            "instruction": pa.array(texts + [english for english, _ in mixed]),
            "response": pa.array([""] * len(texts) + [other for _, other in mixed]),
        }
    )
    quick = Language().judge(records).to_pylist()
    monkeypatch.setattr(filters.language, "_ENGLISH", 2.0)
    assert Language().judge(records).to_pylist() == quick
    assert any(quick) and not all(quick)


def traces(shared_data: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads((shared_data / "sources" / "marco_o1_thoughts.json").read_text("utf-8"))
    return rows


def test_a_missing_model_is_an_error_that_tells_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such language model"):
        Language(model=str(tmp_path / "none.ftz")).judge(table([]))
    monkeypatch.setattr(filters.language, "MODEL", tmp_path / "none.ftz")
    with pytest.raises(FileNotFoundError, match="install Winnow again"):
        find_model(None)


def test_the_step_depends_on_the_model_itself(tmp_path: Path) -> None:
    copy = tmp_path / "copy.ftz"
    copy.write_bytes(find_model(None).read_bytes())
    assert Language(model=str(copy)).parameters() == Language().parameters()
    copy.write_bytes(b"another")
    assert Language(model=str(copy)).parameters() != Language().parameters()
