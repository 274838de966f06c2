"""Which rows are near-duplicates: the same request and answer in other spelling, never another question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dedup.probability import recall
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.recipe import NearDuplicates
from pipelines.steps.duplicates.near import banding_of, drop_near_duplicates
from tests.pipelines.steps.duplicates.corpora import adjacency, dropped, given, kept_ids, records_table, split

PASSAGE = " ".join(
    f"In the {place} of the valley the people keep {animal} and grow {plant}, which they sell at the market in town."
    for place, animal, plant in (
        ("upper part", "goats", "rye"),
        ("middle part", "cows and geese", "apples, pears and plums"),
        ("lower part", "sheep", "wheat"),
        ("south", "horses", "grapes"),
    )
)
GOATS = f"{PASSAGE} Who keeps goats?"
ANSWER = "They keep goats there and grow rye, which they sell at the market in the town below the valley."
PREAMBLE = (
    "You can use these tools. convert(value, unit): converts a value to another unit of length, weight or temperature. "
    "search(text): searches the web for a text and returns the titles of the pages it found. "
    "book(place, day): books a table for two persons in a restaurant near the place. Reply with one call and no more."
)
EXAMPLES = "\n".join(
    f"Review: {text}\nLabel: {label}"
    for text, label in (
        ("The rooms were clean and the staff could not have been kinder to us.", "positive"),
        ("We waited an hour for a soup that was cold when it came.", "negative"),
        ("I would go there again for the view alone, and the bread is good.", "positive"),
    )
)


def near(folder: Path, rows: list[tuple[str, str]], **settings: object) -> Manifest:
    """The step over these rows; row n has the id `s/n`, and the earliest of duplicates is kept."""
    table = records_table([f"s/{n:04}" for n in range(len(rows))], [row[0] for row in rows], [row[1] for row in rows])
    run, parent = given(folder, split(table, 2))
    return drop_near_duplicates(run, parent, NearDuplicates.model_validate({"keep": ("id",), **settings}), {})


def reason(folder: Path, first: tuple[str, str], second: tuple[str, str], **settings: object) -> str | None:
    """The reason for which the second row is dropped; None if both are kept."""
    manifest = near(folder, [first, second], **settings)
    rows = [row for shard in manifest.dropped for row in storage.read_parquet(shard.path).to_pylist()]
    assert all(row["stage"] == "near_duplicate" for row in rows)
    return rows[0]["reason"] if rows else None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Is it far?", "Yes."), ("is it  far", "yes")),
        (("Name a colour!", "Red"), ("Name a colour.", "red.")),
        ((GOATS, ANSWER), (f"{PASSAGE.upper()}\n\nWho keeps GOATS?", ANSWER)),
        (("Is it so. Really?", "It is."), ("Is it so, really", "it is")),
    ],
)
def test_the_same_words_in_other_case_spacing_and_punctuation(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert reason(tmp_path, first, second) == "same_words"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            (GOATS, ANSWER),
            (GOATS.replace("market", "markt", 1), ANSWER),
        ),
        ((GOATS, ANSWER), (f"Read this. {PASSAGE} Who keeps goats?", ANSWER)),
        (
            (f"{PASSAGE} Sum it up in one sentence.", f"{PASSAGE}"),
            (f"{PASSAGE} Sum it up in one sentence.", f"So: {PASSAGE}"),
        ),
    ],
)
def test_a_typo_or_a_few_more_words_are_a_near_duplicate(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert reason(tmp_path, first, second) == "near_duplicate"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((f"{PASSAGE} Who keeps goats?", "The upper part"), (f"{PASSAGE} Who keeps sheep?", "The lower part")),
        ((f"{PASSAGE} Who keeps goats?", "Farmers"), (f"{PASSAGE} Who keeps sheep?", "Farmers")),
        ((f"Who keeps goats? {PASSAGE}", "Farmers"), (f"Who keeps sheep? {PASSAGE}", "Farmers")),
        ((f"{PREAMBLE} Convert 5 miles to km.", "convert()"), (f"{PREAMBLE} Convert 150 miles to km.", "convert()")),
        ((f"{PREAMBLE} Search for a blue coat.", "search()"), (f"{PREAMBLE} Search for red shoes.", "search()")),
        (
            (f"{EXAMPLES}\nReview: A fine place.\nLabel:", "positive"),
            (f"{EXAMPLES}\nReview: I liked it.\nLabel:", "positive"),
        ),
        (
            (GOATS, ANSWER),
            (GOATS, ANSWER.replace("rye", "oats in the hills")),
        ),
        (("Capital of Italy?", "Rome"), ("Capital of France?", "Paris")),
        (("Which one?", "Yes."), ("Which one?", "No.")),
        ((f"{PASSAGE} Sum it up.", PASSAGE), (f"{PASSAGE} Sum it up.", PASSAGE.replace("goats", "12 goats"))),
    ],
)
def test_another_question_or_another_answer_is_kept(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert reason(tmp_path, first, second) is None


def test_a_field_without_a_threshold_is_not_compared(tmp_path: Path) -> None:
    first, second = (GOATS, ANSWER), (f"{PASSAGE} Who keeps goats?", "Nobody.")
    assert reason(tmp_path / "one", first, second, instruction=0.8) == "same_words"
    assert reason(tmp_path / "both", first, second, instruction=0.8, response=0.8) is None
    assert reason(tmp_path / "response", first, (f"Tell me {PREAMBLE}", ANSWER), response=0.8) == "same_words"


def test_evidence_has_the_jaccard_of_each_compared_field(tmp_path: Path) -> None:
    rows = [(GOATS, ANSWER), (f"Read this. {PASSAGE} Who keeps goats?", ANSWER)]
    (evidence,) = dropped(near(tmp_path / "both", rows)).values()
    assert list(evidence["jaccard"]) == ["instruction", "response"]
    assert 0.8 <= evidence["jaccard"]["instruction"] < 1 and evidence["jaccard"]["response"] == 1
    (evidence,) = dropped(near(tmp_path / "one", rows, instruction=0.8)).values()
    assert list(evidence["jaccard"]) == ["instruction"]


def test_a_text_that_many_rows_share_does_not_make_their_requests_alike(tmp_path: Path) -> None:
    """300 claims between a definition and a closing question, both shared by all, with two answers."""
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("ana", "ero", "ilo", "uma") for c in ("k", "r", "n", "")]
    claims = [" ".join(rng.choice(words, 7)) for _ in range(300)]
    rows = [
        (f"{PREAMBLE} {PASSAGE}\n{claim}\nIs the statement above true, as far as you can tell from all of it?", answer)
        for claim, answer in zip(claims, np.where(rng.random(300) < 0.5, "yes", "no").tolist(), strict=True)
    ]
    repeated = [(f"Please. {question}", answer) for question, answer in rows[:20]]
    evidence = dropped(near(tmp_path, [*rows, *repeated]))
    assert evidence.keys() <= {f"s/{n:04}" for n in range(300, 320)} and len(evidence) >= 19
    assert all(int(value["twin"][2:]) == int(name[2:]) - 300 for name, value in evidence.items())


def test_real_pairs_at_the_thresholds_are_found_as_often_as_the_curve_says(tmp_path: Path, shared_data: Path) -> None:
    """Every pair of rows by brute force, without bands, against the rows that share a band."""
    import pyarrow.json as pj

    table = pj.read_json(shared_data / "sources/t0_p3_50k.jsonl.gz")
    found = expected = pairs = 0.0
    for start in (12_000, 13_000, 36_000, 38_000):
        part = table.slice(start, 1_000)
        columns = [part[name].to_pylist() for name in ("prompt", "completion")]
        records = records_table([f"t0/{n:05}" for n in range(len(part))], *columns)
        settings = NearDuplicates(preset="fineweb", keep=("id",))
        every = adjacency(records, settings, every_band=True)
        banding = banding_of(settings)
        first, second = np.nonzero(np.triu(every.adjacent, 1))
        share = adjacency(records, settings).adjacent[first, second]
        # The Jaccard of both fields together is at least the lower of the two.
        lowest = every.jaccard[:, first, second].min(axis=0)
        pairs += len(first)
        found += share.sum()
        expected += sum(recall(min(value, 1.0), banding.bands, banding.rows) for value in lowest.tolist())
        run, parent = given(tmp_path / str(start), split(records, 2))
        manifest = drop_near_duplicates(run, parent, settings, {})
        number = {name: row for row, name in enumerate(records["id"].to_pylist())}
        for name, value in dropped(manifest).items():
            assert every.adjacent[number[name], number[value["twin"]]]
        kept = np.array([number[name] for name in kept_ids(manifest)])
        among = adjacency(records.take(pa.array(kept)), settings).adjacent
        assert not np.triu(among, 1).any() or len(kept) < 1000
    assert pairs > 200 and found >= expected - 3 * np.sqrt(expected)
