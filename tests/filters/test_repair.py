"""Repair: what is mended, and what is right and stays as it is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.exact import digest128
from filters.control import Control
from filters.repair import Repair, mojibake_chars, suspects


def repaired(*responses: str, instruction: str = "Say it.") -> list[str]:
    records = pa.table({"instruction": [instruction] * len(responses), "response": list(responses)})
    result: list[str] = Repair().rewrite(records)["response"].to_pylist()
    return result


PROSE = (
    "Der Müller fährt für fünf Tage über die Brücke – „schön“, sagt er…",
    "L’été, la forêt est très belle : « voilà » l'œuvre déjà payée 30 €.",
    "El niño comió piñas en la mañana y durmió según su corazón.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Учитель описал старый мост перед большой бурей.",
    "老师描述了港口，历史学家参观了旧桥。",
    "Işığı gören öğrenci çok şaşırdı.",
    "x² × 3 ≤ √2 ± ½ → ∞",
)


def _can_be_read_as(text: str, encoding: str) -> bool:
    """Whether every byte of the text's UTF-8 is a character of the encoding."""
    try:
        text.encode().decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "encoding"), [(t, e) for t in PROSE for e in ("latin-1", "cp1252") if _can_be_read_as(t, e)]
)
def test_utf_8_that_was_read_in_another_encoding_is_decoded(text: str, encoding: str) -> None:
    damaged = text.encode().decode(encoding)
    assert repaired(damaged) == [text]
    assert repaired(f"{text} {damaged}") == [f"{text} {text}"], "damage in a part of a line"


def test_damage_that_happened_twice_is_undone_twice() -> None:
    assert repaired("it’s".encode().decode("cp1252").encode().decode("cp1252")) == ["it’s"]


def test_a_closing_quote_that_lost_its_last_byte_is_restored() -> None:
    assert repaired("She said â€œHelloâ€ and left.") == ["She said “Hello” and left."]


def test_windows_1252_that_was_read_as_latin_1_is_decoded() -> None:
    assert repaired("a \x93date\x94 film \x96 it\x92s nice\x85") == ["a “date” film – it’s nice…"]


def test_a_character_that_windows_1252_does_not_have_is_left_for_the_filter() -> None:
    assert repaired("a\x81b") == ["a\x81b"]
    assert Control().judge(pa.table({"instruction": ["a"], "response": ["a\x81b"]})).null_count == 0


@pytest.mark.parametrize(
    ("damaged", "right"),
    [
        ("$3\x0crac{1}{3}$", "$3\\frac{1}{3}$"),
        ("2 \times 3 = 6", "2 \\times 3 = 6"),
        ("\x08egin{align}", "\\begin{align}"),
        ("\x07lpha + \x08eta", "\\alpha + \\beta"),
        ("\x0bec{v}", "\\vec{v}"),
    ],
)
def test_a_tex_command_gets_its_backslash_back(damaged: str, right: str) -> None:
    assert repaired(damaged) == [right]


def test_tabs_and_page_breaks_between_words_stay() -> None:
    texts = ["a\timage\tan\tau\to", "page one\x0cpage two"]
    assert repaired(*texts) == texts


def test_a_byte_order_mark_in_front_is_removed() -> None:
    assert repaired("\ufeff42") == ["42"]


RIGHT = (
    *PROSE,
    "He said “it’s ‘fine’” — ﬁrst, Ａ１, cafe\u0301 &amp; <b>&lt;</b>\r\n",
    "NÃO É PRECISO, CORAÇÃO; Ã is a letter, and Â too.",
    "É… « À l’aube »… “É”",
    "\x1b[31mred\x1b[0m",
    "Ελλάδα, «γεια σου»… Приве́т, «мир»… «Ё»",
    "├── src\n│   └── main.py",
    "10³ µm ™ ® © ½ ª º",
    "Đường phố Hà Nội, Łódź, Škoda, Ægir",
    "Україна, її мова: «є, і, ї, ґ»; Ђорђе, Љубица",
)


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_text_is_not_changed(text: str) -> None:
    assert repaired(text) == [text]


def test_a_text_about_encodings_keeps_its_examples() -> None:
    assert repaired("é becomes Ã© in Latin-1.") == ["é becomes Ã© in Latin-1."]
    assert repaired("Ã© for é", instruction="What does mojibake look like?") == ["Ã© for é"]


@settings(max_examples=200, deadline=None)
@example("Ââ€")
@given(st.text(st.sampled_from("ab é’“…–ÃÂâ€™œß\x96\x0c\ufeffПр中"), max_size=20))
def test_repair_is_idempotent_and_no_other_text_is_read(text: str) -> None:
    once = repaired(text)
    assert repaired(*once) == once
    if once != [text]:
        assert suspects(pa.array([text])).tolist() == [0]


def test_the_digest_is_that_of_the_repaired_text() -> None:
    columns = {"condition": ["direct"] * 2, "instruction": ["a", "b"], "response": ["cafÃ©", "café"]}
    digest = digest128(*(pa.array(column) for column in columns.values()))
    records = Repair().rewrite(pa.table({**columns, "digest": digest}))
    contents = (records[name].combine_chunks() for name in columns)
    assert records["digest"].combine_chunks().equals(digest128(*contents))
    assert records["digest"][1].as_py() == digest[1].as_py()


def test_mojibake_is_counted_in_characters_too_many() -> None:
    texts = pa.array(["cafÃ© and itâ€™s", "café"])
    records = pa.table({"instruction": ["a", "a"], "response": texts})
    assert mojibake_chars(records, texts, suspects(texts)).tolist() == [3, 0]
