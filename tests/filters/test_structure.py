"""What is prose, and which fences are open."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from filters.structure import letters_ratio, open_fences, prose_of

OPEN = [
    "```\nls",
    "Here it is.\n```python\nprint(1)",
    "- a\n- ```sh\n  ls",
    "> ```\n> ls",
    "````\n```\nls\n```",
    "~~~\nls\n```",
    "Answer: ```json\n{",
    "```\nls\n```\n\n```\nls",
]
CLOSED = [
    "```ls -la```",
    "Run this:\n```ls -la```\nIt lists the files.",
    "Use ```npm i``` and then ```npm start```.",
    "1. ```bash\n   ls\n   ```\n2. Done.",
    "- ```python\n  x = 1\n  ```",
    "> ```\n> ls\n> ```\n\nThat is all.",
    "````\n```\nls\n```\n````",
    "~~~\n```\n~~~",
    "```bash\ncat <<EOF\n```text\nEOF\n```",
    "Answer: ```json\n{}\n```",
    '```python\nprint("hi")```',
    "`` ` ``",
]


@pytest.mark.parametrize("text", OPEN)
def test_a_fence_without_its_closing_fence_is_open(text: str) -> None:
    assert open_fences(pa.array([text]))[0] > 0


@pytest.mark.parametrize("text", CLOSED)
def test_spans_and_closed_fences_are_not_open(text: str) -> None:
    assert open_fences(pa.array([text]))[0] == 0


LINE = st.sampled_from(["```", "````", "~~~", "~~~~", "```python", "text", "", "x = 1", "```a b```", "``", "```` ```"])


@settings(max_examples=300, deadline=None)
@given(st.lists(LINE, max_size=8))
def test_fences_are_open_where_a_reader_of_commonmark_finds_them_open(lines: list[str]) -> None:
    # A last line of text: a fence that is open holds it, and a fence that is closed does not.
    text = "\n".join([*lines, "the end of it"])
    tokens = MarkdownIt("commonmark").parse(text)
    inside = any(token.type == "fence" and "the end of it" in token.content for token in tokens)
    assert bool(open_fences(pa.array([text]))[0]) == inside, text


PROSE = [
    "The crew repaired the bridge before the storm.",
    "- Use the middle of the oven for it.",
    "1. First, open the door of the house.",
    "Die Gemeinde reparierte die alte Brücke.",
    "在漫长的冬天之后，老水手修好了港口。",
    "She doesn't know the well-known answer (yet).",
]
OTHER = [
    "    return result;",
    "}",
    "x = f(a, b) + c[1]",
    "$a^2 + b^2 = c^2$ and so $c = 5$",
    "| 1901 | the old library of the town | 3 |",
    "> We quote a line of prose here.",
    "0 & 0 & 0 & 0 \\\\",
    '  "place": "the old library",',
    "// draws the line that fits in the box",
    "Fizz",
    "⬜⬜⬜⬜⬜⬜⬜⬜⬜⬜⬜⬜",
    "3 + 4 = 7",
]


@pytest.mark.parametrize("line", PROSE)
def test_sentences_are_prose(line: str) -> None:
    assert prose_of(pa.array([line])).to_pylist() == [line]


@pytest.mark.parametrize("line", OTHER)
def test_programs_formulas_tables_quotations_and_data_are_no_prose(line: str) -> None:
    assert "\0" in prose_of(pa.array([line])).to_pylist()[0]


def test_lines_in_a_fence_are_no_prose() -> None:
    sentence = "The crew repaired the bridge before the storm."
    text = f"{sentence}\n```\n{sentence}\n```\n{sentence}"
    lines = prose_of(pa.array([text])).to_pylist()[0].split("\n")
    assert [line.startswith("\0") for line in lines] == [False, True, True, True, False]


TEXT = st.text(st.sampled_from("ab .\n`~|>$\\é好⬜1=-"), max_size=40)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=5), st.booleans())
def test_marking_keeps_bytes_and_rows(texts: list[str], words_alone: bool) -> None:
    array = pa.array(["before", *texts], pa.string()).slice(1)
    marked = prose_of(array, words_alone).to_pylist()  # to_pylist fails where the text is not UTF-8
    assert [len(text.encode()) for text in marked] == [len(text.encode()) for text in texts]
    assert [text.count("\n") for text in marked] == [text.count("\n") for text in texts]
    assert all(0 <= ratio <= 1 for ratio in letters_ratio(array))
