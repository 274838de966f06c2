"""Files of ratings: whose columns are told, in the spellings of published sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.audit.ratings import read_ratings
from pipelines.errors import InputError, WinnowError

TEXTS = {"instruction": "What is the largest lake?", "response": "It is the Caspian Sea."}
PAIR = {"instruction": "Name a tall tree, please.", "response_a": "The coast redwood.", "response_b": "It is grass."}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows))
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
def test_ratings_by_id_or_text_are_read_from_any_format(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": f"r{n}", "stars": n % 5 + 1} for n in range(7)]
    read = read_ratings([written(tmp_path / f"ids{suffix}", rows)])
    assert read.by_id and not read.pairs
    assert read.rows["id"].to_list() == [row["id"] for row in rows]
    assert read.values[:, 0].tolist() == [row["stars"] for row in rows]
    rows = [{**TEXTS, "rating": 2.5, "model": "m"}, {**TEXTS, "response": "It is a small pond.", "rating": 1}]
    rows[1]["model"] = "n"
    read = read_ratings([written(tmp_path / f"texts{suffix}", rows)])
    assert read.rows["response"].to_list() == [row["response"] for row in rows]
    assert read.rows["source"].to_list() == ["m", "n"] and read.values[:, 0].tolist() == [2.5, 1]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_several_raters_may_be_columns_a_list_or_lines(tmp_path: Path, suffix: str) -> None:
    wide = [{"id": "a", "annotator_1": 1, "annotator_2": 2}, {"id": "b", "annotator_1": 4, "annotator_2": None}]
    listed = [{"id": "a", "ratings": [1, 2]}, {"id": "b", "ratings": [4]}]
    long = [
        {"id": "a", "rater": "x", "rating": 1},
        {"id": "b", "rater": "x", "rating": 4},
        {"id": "a", "rater": "y", "rating": 2},
    ]
    for name, rows in (("wide", wide), ("listed", listed), ("long", long)):
        read = read_ratings([written(tmp_path / f"{name}{suffix}", rows)])
        assert read.rows["id"].to_list() == ["a", "b"]
        np.testing.assert_array_equal(read.values, [[1, 2], [4, np.nan]])
    long = [{key: value for key, value in row.items() if key != "rater"} for row in long]
    unnamed = read_ratings([written(tmp_path / f"unnamed{suffix}", long)])
    np.testing.assert_array_equal(unnamed.values, [[1, 2], [4, np.nan]])
    assert unnamed.unnamed == 1 and read.unnamed == 0


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_repeated_line_is_no_second_rating_in_one_file_or_in_two(tmp_path: Path, suffix: str) -> None:
    plain = [{"id": name, "rating": 1 + number} for number, name in enumerate("abc")]
    raters = [{**row, "rater": rater} for row in plain for rater in "xy"]
    pairs = [{"id": row["id"], "response_a": "p", "response_b": "q", "winner": "a", "rater": "x"} for row in plain]
    for name, rows in (("plain", plain), ("raters", raters), ("pairs", pairs)):
        once = read_ratings([written(tmp_path / f"{name}{suffix}", rows)])
        twice = read_ratings([written(tmp_path / f"{name}2{suffix}", rows + rows)])
        files = [str(tmp_path / f"{name}{suffix}"), str(tmp_path / f"{name}2{suffix}")]
        for read, repeated in ((twice, len(rows)), (read_ratings(files), 2 * len(rows))):
            np.testing.assert_array_equal(read.values, once.values)
            assert read.rows["id"].to_list() == once.rows["id"].to_list()
            assert (read.repeated, read.unnamed, once.repeated) == (repeated, 0, 0)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("preference", [1, 2, 0]),
        ("preference", ["a", "b", "tie"]),
        ("winner", ["model_a", "model_b", "tie (bothbad)"]),
        ("winner", ["A", "B", "Tie"]),
        ("preference", [1, -1, 0]),
        ("label", ["response_a", "response_b", "neither"]),
        ("annotator1", ["1", "2", "0"]),
    ],
)
def test_preferences_are_read_in_every_spelling(tmp_path: Path, column: str, values: list[Any]) -> None:
    rows = [{**PAIR, "instruction": f"Name {n} trees, please.", column: value} for n, value in enumerate(values)]
    if column == "annotator1":
        rows = [{**row, "annotator2": row[column]} for row in rows]
    read = read_ratings([written(tmp_path / "pairs.jsonl", rows)])
    assert read.pairs
    assert read.values[:, 0].tolist() == [1, -1, 0]
    assert read.rows["response_a"].to_list() == [PAIR["response_a"]] * 3
    said = read.columns[str(tmp_path / "pairs.jsonl")]["preference"]
    one, other, _ = values
    assert ("is the first" in said) == (str(one) == "1")
    assert (f"{other} is the second" in said) == (str(other) in ("2", "-1"))


@pytest.mark.parametrize(
    ("written_as", "numbers"),
    [
        (["4/5", "1 / 5", "2.5 out of 5 stars", ""], [4, 1, 2.5, np.nan]),
        (["80 %", "5%", "n/a", "100%"], [80, 5, np.nan, 100]),
        (["4,5", "3", "2,25", "null"], [4.5, 3, 2.25, np.nan]),
        (["good", "bad", "Right", "No"], [1, 0, 1, 0]),
    ],
)
def test_ratings_with_their_scale_and_decimal_commas_are_numbers(
    tmp_path: Path, written_as: list[str], numbers: list[float]
) -> None:
    rows = [{"id": f"r{n}", "rating": text} for n, text in enumerate(written_as)]
    read = read_ratings([written(tmp_path / "ratings.jsonl", rows)])
    np.testing.assert_array_equal(read.values[:, 0], [one for one in numbers if not np.isnan(one)])
    assert read.ignored == np.isnan(numbers).sum()


@pytest.mark.parametrize(
    ("written_as", "message"),
    [
        (["4/5", "8/10"], r"several scales \(5 and 10\)"),
        (["40 %", "0.4"], r"several scales \(% and without it\)"),
        (["4/5", "8"], r"row 2, column rating: '8' is above the end of the scale, 5"),
        (["poor", "fine"], r"row 1, column rating: 'poor' is no number; .*write numbers for other words"),
    ],
)
def test_ratings_of_several_scales_are_refused(tmp_path: Path, written_as: list[str], message: str) -> None:
    rows = [{"id": f"r{n}", "rating": text} for n, text in enumerate(written_as)]
    with pytest.raises(InputError, match=message):
        read_ratings([written(tmp_path / "ratings.jsonl", rows)])


def test_a_preference_may_be_the_source_of_a_response(tmp_path: Path) -> None:
    rows = [
        {**PAIR, "instruction": f"Name {n} trees.", "model_a": "m", "model_b": "n", "winner": winner}
        for n, winner in enumerate(("n", "m", "about the same"))
    ]
    assert read_ratings([written(tmp_path / "named.jsonl", rows)]).values[:, 0].tolist() == [-1, 1, 0]


def test_chosen_and_rejected_responses_need_no_preference_and_every_second_pair_is_turned(tmp_path: Path) -> None:
    rows = [{"prompt": f"Name {n} trees, please.", "chosen": f"Good {n}.", "rejected": f"Bad {n}."} for n in range(4)]
    read = read_ratings([written(tmp_path / "chosen.jsonl", rows)])
    assert read.pairs and read.values[:, 0].tolist() == [1, -1, 1, -1]
    assert read.rows["response_a"].to_list() == ["Good 0.", "Bad 1.", "Good 2.", "Bad 3."]
    assert read.rows["response_b"].to_list() == ["Bad 0.", "Good 1.", "Bad 2.", "Good 3."]


@pytest.mark.parametrize(("a", "b"), [("output_1", "output_2"), ("answer_a", "answer_b"), ("response1", "response2")])
def test_two_responses_are_told_by_their_names(tmp_path: Path, a: str, b: str) -> None:
    rows = [
        {"input": "Name a tall tree, please.", a: "The coast redwood.", b: "It is grass.", "label": n} for n in (1, 2)
    ]
    read = read_ratings([written(tmp_path / "pairs.json", rows)])
    assert read.rows["response_b"].to_list() == ["It is grass."] * 2


def test_a_column_of_faults_is_turned(tmp_path: Path) -> None:
    rows = [{**TEXTS, "hallucination": "no"}, {**TEXTS, "response": "It is the Moon.", "hallucination": "yes"}]
    path = written(tmp_path / "faults.jsonl", rows)
    assert read_ratings([path], {"rating": "-hallucination"}).values[:, 0].tolist() == [1, 0]
    with pytest.raises(
        WinnowError, match=r"holds the rating cannot be told \(columns: .*hallucination.*rating=-COLUMN"
    ):
        read_ratings([path])


def test_mistakes_name_the_file_the_row_and_what_to_write(tmp_path: Path) -> None:
    bad = written(tmp_path / "bad.jsonl", [{"id": "a", "stars": 3}, {"id": "b", "stars": "many"}])
    with pytest.raises(InputError, match=r"bad\.jsonl: row 2, column stars: 'many' is no number"):
        read_ratings([bad])
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"id": "a", "stars": 3}\n{"id": "b", "sta\n')
    with pytest.raises(InputError, match=r"torn\.jsonl: row 2 cannot be read \(broken_json\)"):
        read_ratings([str(torn)])
    nested = written(tmp_path / "nested.jsonl", [{"id": n, "rating": [{"by": "ann", "stars": 3}]} for n in "ab"])
    with pytest.raises(InputError, match=r"row 1 cannot be read \(wrong_type\); .*Name a field .*rating\.FIELD"):
        read_ratings([nested])
    with pytest.raises(InputError, match="no line has a rating"):
        read_ratings([written(tmp_path / "empty.csv", [{"id": "a", "stars": ""}])])
    with pytest.raises(WinnowError, match="no such column; did you mean 'stars'"):
        read_ratings([bad], {"rating": "star"})
    with pytest.raises(WinnowError, match="did you mean 'rating'"):
        read_ratings([bad], {"ratng": "stars"})
    with pytest.raises(InputError, match="0 and 1 can be read in two ways"):
        rows = [{**PAIR, "preference": n} for n in (0, 1)]
        read_ratings([written(tmp_path / "zero.jsonl", rows)])
    with pytest.raises(WinnowError, match="which rows are rated cannot be told"):
        read_ratings([written(tmp_path / "what.jsonl", [{"place": 3, "stars": 4}])])
    pairs = written(tmp_path / "pairs.jsonl", [{**PAIR, "preference": "a"}])
    with pytest.raises(WinnowError, match="others preferences"):
        read_ratings([pairs, written(tmp_path / "one.jsonl", [{"id": "a", "stars": 3}])])


def test_published_sets_are_read_without_naming_columns(shared_data: Path) -> None:
    folder = shared_data / "ratings"
    read = read_ratings([str(folder / "pandalm_human.json")])
    assert (read.pairs, read.values.shape) == (True, (999, 3))
    assert set(np.unique(read.values)) == {-1, 0, 1}
    solutions = read_ratings([str(folder / "gsm8k_model_solutions.jsonl")])
    assert solutions.values.shape == (2640, 1) and solutions.rows["source"].n_unique() == 4
    assert read_ratings([str(folder / "mt_bench_human.json")]).values.shape == (200, 1)
