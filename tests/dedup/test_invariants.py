"""What must be equal: numbers, operators, questions, the last sentence. Case, spaces and punctuation do not count."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dedup.invariants import MAX_ENDING, MAX_QUESTION, MIN_ENDING, invariants, invariants_and_shingles
from dedup.shingles import shingle_hashes

BODY = "The river rises in the hills and runs through the old town. It is long and slow. "
CLOSING = "Tell me in one short sentence where the river rises"


def equal(first: str, second: str) -> dict[str, bool]:
    digests = invariants(pa.array([first, second]))
    return {name: bool(digest[0] == digest[1]) for name, digest in digests._asdict().items()}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Convert 5 miles to km", "Convert 150 miles to km"),
        ("It was written in 1931.", "It was written in 1932."),
        ("version 3.5", "version 35"),
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("What is -5 squared?", "What is 5 squared?"),
        ("Simplify x * y", "Simplify x / y"),
        ("if a < b", "if a > b"),
        ("2**3", "2*3"),
        ("٣ apples", "٤ apples"),
        ("total += count", "total -= count"),
        ("A ≤ B", "A ≥ B"),
        ("three apples and a pear", "four apples and a pear"),
        ("Twenty of them", "Thirty of them"),
    ],
)
def test_another_number_or_operator_is_another_text(first: str, second: str) -> None:
    assert not equal(first, second)["marks"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("- one thing\n- another thing", "* one thing\n* another thing"),
        ("a well-known fact", "a well known fact"),
        ("yes - of course", "yes, of course"),
        ("this is **very** good", "this is very good"),
        ("In 1931, on May 5", "on May 5 in 1931"),
        ("either/or", "either or"),
    ],
)
def test_bullets_hyphens_dashes_and_emphasis_are_no_operators(first: str, second: str) -> None:
    assert equal(first, second)["marks"]


def test_a_typo_in_the_body_leaves_all_but_the_words_equal() -> None:
    result = equal(BODY + CLOSING, BODY.replace("through", "thruogh") + CLOSING)
    assert result == {"words": False, "marks": True, "sentences": True, "tokens": True}


@pytest.mark.parametrize(
    "text", [BODY + CLOSING, "Nein, das weiß ich nicht. " * 5, "これは何ですか。そうですか。" * 4, "x = [1, 2]\n" * 9]
)
def test_case_and_spaces_change_nothing(text: str) -> None:
    assert all(
        equal(text, "  " + text.upper().replace("SS", "ß").replace(" ", "  "))[name] for name in ("marks", "words")
    )


def test_the_last_sentence_counts_and_those_before_it_do_not() -> None:
    assert not equal(BODY + CLOSING, BODY + CLOSING.replace("rises", "ends"))["sentences"]
    assert equal(BODY + CLOSING, "It is slow. " + CLOSING)["sentences"]


def test_a_short_closing_line_does_not_hide_the_sentence_before_it() -> None:
    first, second = (f"{BODY}Who lives in the {place} by the river?\nAnswer:" for place in ("house", "mill"))
    assert len(["Answer"]) < MIN_ENDING and not equal(first, second)["sentences"]


def test_of_a_text_without_sentences_the_last_tokens_count() -> None:
    words = [f"w{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(100)]
    for place, same in ((100 - MAX_ENDING - 1, True), (100 - MAX_ENDING, False), (99, False)):
        other = [*words[:place], "other", *words[place + 1 :]]
        assert equal(" ".join(words), " ".join(other))["sentences"] == same


def test_a_question_counts_wherever_it_is_and_what_a_template_puts_before_it_does_not() -> None:
    passage = f"{BODY}{BODY}{CLOSING}."
    assert not equal(f"Who lives here? {passage}", f"Who works here? {passage}")["sentences"]
    assert equal(f"Who lives here? {passage}", f"Answer the question: Who lives here? {passage}")["sentences"]
    assert equal(f"{BODY}Who lives here? {passage}", f"Who lives here? {BODY}{passage}")["sentences"]
    long = " ".join(["word"] * MAX_QUESTION) + "?"
    assert equal(f"Tell me {long} {passage}", f"So {long} {passage}")["sentences"]


def test_a_question_mark_in_an_address_is_no_question() -> None:
    text = f"See example.org/page?id=x for more. {CLOSING}"
    assert equal(text, text.replace("page", "site"))["sentences"]


def test_texts_without_a_word_differ_by_their_signs() -> None:
    assert not equal("…", "???")["words"] and equal("…", "…")["words"]


@pytest.mark.parametrize("ngram", [1, 2, 5])
def test_shingles_read_with_the_digests_are_those_read_alone(ngram: int) -> None:
    texts = pa.array(
        ["", "Why?", "word " * 3000, "α β, 2x + 3 = 7\u00a0-- and so on. " * 40, "日本語。", "..", "a b c d e"]
    )
    for rows in (texts, texts.slice(2, 3), texts.slice(0, 0)):
        digests, shingles = invariants_and_shingles(rows, ngram)
        alone = shingle_hashes(rows, ngram)
        assert shingles.hash.tolist() == alone.hash.tolist()
        assert shingles.offsets.tolist() == alone.offsets.tolist()
        for one, other in zip(digests, invariants(rows), strict=True):
            assert one.tolist() == other.tolist()


def test_an_ngram_has_at_least_one_unit() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        invariants_and_shingles(pa.array(["a"]), 0)
