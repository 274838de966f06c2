"""Personal data: what is found and masked, and what looks like it."""

from __future__ import annotations

import itertools
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.pii import MaskPii, Pii, find
from filters.stage import apply
from tests.filters.labelled import pii as labelled


def masked(text: str, **parameters: object) -> str:
    records = pa.table({"instruction": ["Say it."], "response": [text]})
    result: str = MaskPii.model_validate(parameters).rewrite(records)["response"][0].as_py()
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail ann.lee@gmail.com, or bob+1@uni-x.ac.uk.", "Mail [email], or [email]."),
        ("a@x.de;b@y.fr", "[email];[email]"),
        ("Call +44 20 7946 0958 or (212) 736-5000.", "Call [phone] or [phone]."),
        ("Tel.: 030 901820", "Tel.: [phone]"),
        ("Room 030 901820", "Room 030 901820"),
        ("from 93.184.216.34 and 2a00:1450:4001:80b::200e", "from [ip] and [ip]"),
        ("card 5500-0055-5555-5559, 3782 822463 10005", "card [card], [card]"),
        ("IBAN: NL91ABNA0417164300", "IBAN: [iban]"),
        ("DE89 3704 0044 0532 0130 00.", "[iban]."),
    ],
)
def test_each_kind_is_replaced_by_its_token(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_a_number_of_a_card_without_groups_needs_the_word_for_it() -> None:
    assert masked("My visa is 4242424242424242.") == "My visa is [card]."
    assert masked("The number 4242424242424242 is even.") == "The number 4242424242424242 is even."


@pytest.mark.parametrize("text", labelled._NO_DATA)
def test_what_looks_like_personal_data_stays(text: str) -> None:
    assert find(text) == []


def test_examples_count_where_that_is_wanted() -> None:
    text = "ann@example.com at 192.168.0.1"
    assert masked(text) == text
    assert masked(text, keep_examples=False) == "[email] at [ip]"


def test_one_kind_is_dropped_and_the_rest_masked() -> None:
    responses = ["Pay to NL91ABNA0417164300.", "Write to ann.lee@gmail.com.", "Nothing."]
    records = pa.table({"id": ["0", "1", "2"], "instruction": ["Say it."] * 3, "response": responses})
    outcome = apply([Pii(kinds=("iban",)), MaskPii()], records)
    assert outcome.dropped["reason"].to_pylist() == ["iban"]
    assert outcome.kept["response"].to_pylist() == ["Write to [email].", "Nothing."]
    assert outcome.kept["score_pii"].to_pylist() == [-1, 0]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["_card", "_iban", "_phone", "_ip"]), st.text("ab \n.,é0", max_size=6))
def test_findings_lie_in_the_text_and_masking_again_finds_no_more(seed: int, kind: str, around: str) -> None:
    text = f"{around} Tel. {getattr(labelled, kind)(Random(seed))}\n{around}"
    findings = find(text)
    assert all(0 <= a.start < a.end <= len(text) for a in findings)
    assert all(a.end <= b.start for a, b in itertools.pairwise(findings))
    assert find(masked(text)) == []


@pytest.mark.parametrize("kind", ["_card", "_iban"])
def test_a_number_with_one_wrong_digit_is_none(kind: str) -> None:
    for seed in range(100):
        number = getattr(labelled, kind)(Random(seed))
        wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert [finding.kind for finding in find(number)] == [kind[1:]], number
        assert kind[1:] not in {finding.kind for finding in find(wrong)}, wrong
