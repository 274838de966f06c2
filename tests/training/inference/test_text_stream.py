"""Pieces of a text join to the text, whatever the tokens and stop strings, and nothing is withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.inference.generate import cut_at_stop
from training.inference.text_stream import REPLACEMENT, TextStream


@pytest.fixture(scope="module")
def decoder(tokenizer: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer))


def pieces(decoder: Tokenizer, ids: list[int], stop: list[str]) -> list[str]:
    """What a stream returns; a sequence ends with the token that completes a stop string."""
    stream = TextStream(decoder.decode, stop)
    made: list[str] = []
    for count in range(1, len(ids) + 1):
        if any(string in decoder.decode(ids[:count]) for string in stop):
            ids = ids[:count]
            break
        made.append(stream.push(ids[:count]))
    return [*made, stream.finish(ids)]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_pieces_join_to_the_text_cut_at_the_first_stop_string(decoder: Tokenizer, data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="ab é€🎉日 .", max_size=20))
    ids = decoder.encode(text).ids + data.draw(st.lists(st.integers(0, 300), max_size=12))
    stop = data.draw(st.lists(st.sampled_from(["b", "ab", "é€", "🎉", "a b", " .", "€🎉日"]), max_size=3))
    assert "".join(pieces(decoder, ids, stop)) == cut_at_stop(decoder.decode(ids), stop)


def test_a_character_of_several_tokens_is_one_piece(decoder: Tokenizer) -> None:
    ids = decoder.encode("a🎉b").ids
    assert len(ids) == 6
    assert pieces(decoder, ids, []) == ["a", "", "", "", "🎉", "b", ""]


def test_text_that_may_begin_a_stop_string_is_held_back_and_then_returned(decoder: Tokenizer) -> None:
    ids = [token for character in "x<<y" for token in decoder.encode(character).ids]
    assert pieces(decoder, ids, ["<<z"]) == ["x", "", "", "<<y", ""]
    assert pieces(decoder, ids, ["<<y"]) == ["x", "", "", ""]


def test_bytes_that_are_no_text_are_returned_at_the_end(decoder: Tokenizer) -> None:
    ids = decoder.encode("a🎉").ids[:3]
    made = pieces(decoder, ids, [])
    assert made[0] == "a" and set(made[-1]) == {REPLACEMENT} and "".join(made) == decoder.decode(ids)
