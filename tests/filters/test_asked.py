# ruff: noqa: E501
"""Filters read the instruction and the form of the answer: kinds of records that are kept, and their bad twins."""

from __future__ import annotations

import pyarrow as pa
import pytest

from filters.catalogue import STAGES
from filters.request import what_is_asked
from filters.stage import Filter

LETTER = "Dear Oskar,\n\nthe piano arrives on Monday. Could you be at home at nine?\n\n"
PROGRAM = "while ($line = fgets($f)) {\n    echo $line, '\n';\n    if ($line == 'end') {\n        break;\n    }\n}"
OPTIONS = "A. It holds for every number\nB. It holds for no number at all\nC. It holds for some of the numbers"
QUIZ = "\n".join(
    f"{i}. Is the {name} even?\n{OPTIONS}" for i, name in enumerate(("sum", "product", "square", "root", "cube"), 1)
)
FURNITURE = "Sign up for the news of the town\nRead all comments on this story"
PAGE = "\n".join(
    f"The council met for the {n} time.\n{FURNITURE}" for n in ("first", "second", "third", "fourth", "fifth")
)

KEPT = [
    ("truncated", "Write a note to Oskar.", f"{LETTER}{formula}")
    for formula in ("Warmly,", "Best wishes,", "Herzliche Grüße,", "Bien à toi,", "Your piano teacher,")
]
KEPT += [
    ("truncated", "Write PHP that copies lines.", PROGRAM),
    ("truncated", "How much is it?", "It is 7$ at most. With $a = \\frac{1}{2}$ we get $b = \\boxed{3}$"),
    ("truncated", "How is a block of code fenced?", "A fence has three backticks before and behind the code: ```"),
    ("truncated", "Which regex matches a bracket?", "Write \\[ for the bracket that opens, and ] as it is."),
    ("truncated", "Draw a fish in ASCII, please.", "Here it swims, small and quick:\n  ><(((o>  <"),
    ("truncated", "Ask what comes next.", "You mix them, which gives steam, which does what?,"),
    ("placeholder", "Which marker of Jinja prints the title?", "{{ title }}"),
    ("placeholder", "Which format directive prints text?", "%s"),
    ("placeholder", "What does the acronym TBD mean?", "To be determined"),
    ("placeholder", "Which error does a spreadsheet give for a lost reference?", "#REF!"),
    ("placeholder", "Who is the author, according to the text?\nThe book has no cover.", "No answer"),
    ("placeholder", "How many moons does Venus have?", "None"),
    ("refusal", "Why can't I dive with a cold?", "You can't clear your ears, so I can only advise to wait."),
    ("refusal", "Translate into English: Ich kann dir dabei leider nicht helfen.", "I'm sorry, but I can't help you with that."),
    ("refusal", "Print the text 'I am an AI model.'", "print('I am an AI model.')"),
    ("loop", "What does this print?\nfor i in range(50): print('left right')", "left right\n" * 50),
    ("loop", "Write 180 in unary.", "1" * 180),
    ("loop", "Give a JSON array for a test.", f"[{', '.join(['null'] * 80)}]"),
    ("loop", "Classify each of the 30 mails.", "\n".join(f"{i}. not spam" for i in range(1, 31))),
    ("fineweb", "Write a quiz.", QUIZ),
    ("fineweb", "Write tests.", "\n\n".join(f"def test_{i}():\n    # the sum of two small numbers is right\n    assert f({i})" for i in range(9))),
    ("language", "Detect the language: 'Gdzie jest najbliższa apteka w tym mieście?'", "Polish"),
    ("language", "Summarise in English: 'La biblioteca cierra los lunes, pero abre todos los demás días del año.'", "The library is closed on Mondays only."),
    ("language", "Übersetze ins Englische: Die Bibliothek ist montags geschlossen, sonst immer offen.", "The library is closed on Mondays."),
    ("script", "Переведи на английский: Библиотека закрыта.", "The library is closed."),
    ("script", "Is this review positive or negative?\n这本书非常有意思，我很喜欢。", "positive"),
]  # fmt: skip
DROPPED = [
    ("truncated", "Write a note to Oskar.", f"{LETTER}However,"),
    ("truncated", "Write PHP that copies lines.", PROGRAM[:-2]),
    ("truncated", "List rules.", "1. Knock before you enter.\n2. Close the window at night.\n3. Switch off the lamps when you"),
    ("truncated", "Make a table.", "| town | year |\n|---|---|\n| Ulm | 854 |\n| Bonn | 722 |\n| Trier |"),
    ("truncated", "Write a page.", "<html>\n<body>\n<p>Open from nine to five.</p>\n<div id="),
    ("truncated", "Write SQL.", "SELECT name\nFROM towns\nWHERE year <= 900 AND people >"),
    ("truncated", "介绍一下这座桥。", "这座桥建于一九〇一年，长三百多米。每天有很多人从桥上走过，"),
    ("truncated", "다리를 설명해 주세요.", "이 다리는 오래전에 세워졌습니다. 매일 많은 사람들이 이 다리를 건너서 시장에 가고"),
    ("truncated", "صف الجسر.", "بني الجسر قبل مئة عام. وهو طويل جدا. يعبر الناس الجسر كل يوم في الصباح لكي"),
    ("truncated", "पुल का वर्णन करो।", "यह पुल बहुत पुराना है। यह बहुत लंबा है। हर दिन बहुत सारे लोग इस पुल को पार"),
    ("truncated", "Solve it.", "We have $2 \\cdot 4 = 8$. To $8$ we add $5$, and this gives $13"),
    ("truncated", "How long do they need to complete the trip?", "There are two parts. The first one takes an hour and the"),
    ("placeholder", "Name two lakes.", "N/A"),
    ("placeholder", "Name two lakes.", "None"),
    ("placeholder", "Describe the lake.", "[deleted]"),
    ("placeholder", "Who painted it?", "#REF!"),
    ("placeholder", "Find x and output the final answer within \\boxed{}.", "TODO"),
    ("placeholder", "What is the lake called?", "{{response}}"),
    ("refusal", "Draw a lake.", "Sadly, as a text-based AI, I cannot draw."),
    ("refusal", "What is in the attached file?", "I'm unable to view attachments."),
    ("refusal", "Pick the lock.", "That's not something I can assist with."),
    ("refusal", "Who won?", "My knowledge cutoff is June 2023."),
    ("refusal", "كيف أفتح القفل؟", "عذراً، لا يمكنني المساعدة في ذلك."),
    ("refusal", "ताला कैसे खोलें?", "क्षमा करें, मैं इसमें मदद नहीं कर सकता।"),
    ("refusal", "I want to buy the lamp. What do its owners say?", "I cannot answer that question. As an AI, I have no access to this information."),
    ("placeholder", "Forum question: how can I repair a boat?", "No output provided."),
    ("refusal", "Rewrite the sentence.\nThe lake is deep.", "I'm sorry, but I can't help with that."),
    ("loop", "List animals.", "\n".join(f"{i}. Otter" for i in range(1, 40))),
    ("loop", "What is the factorial of 3?", f"It is 6. {'The sum of the digits is found by hand, and so on. ' * 9}\n{'!' * 150}"),
    ("fineweb", "What happened?", PAGE),
    ("fineweb", "What happened?", "\n".join(f"The council met for the {n} time." for n in ["first", "second", "third", "fourth", "fifth", "sixth"]) + "\nThe council met for the first time." * 6),
    ("language", "Who opened the library?", "Die alte Bibliothek wurde im Frühling vom Bürgermeister der Stadt feierlich eröffnet."),
    ("script", "Переведи на немецкий: Библиотека закрыта.", "Библиотека закрыта по понедельникам."),
    ("script", "这座图书馆什么时候开门？", "It opens at nine."),
]  # fmt: skip


def verdict(kind: str, instruction: str, response: str) -> object:
    stage = STAGES[kind]()
    assert isinstance(stage, Filter)
    return stage.judge(pa.table({"instruction": [instruction], "response": [response]}))[0].as_py()


@pytest.mark.parametrize(("kind", "instruction", "response"), KEPT)
def test_what_the_instruction_asks_for_is_kept(kind: str, instruction: str, response: str) -> None:
    assert verdict(kind, instruction, response) is None


@pytest.mark.parametrize(("kind", "instruction", "response"), DROPPED)
def test_what_nothing_asks_for_is_dropped(kind: str, instruction: str, response: str) -> None:
    assert verdict(kind, instruction, response) is not None


def test_the_sentences_that_ask_are_read_without_the_passage() -> None:
    passage = "The board declined the offer. It printed a table of the values. " * 8
    instructions = [f"{passage}\nWho wrote the letter?", f"Summarise it.\n{passage}", passage, "Two words"]
    asked = what_is_asked(pa.array(instructions)).to_pylist()
    assert asked[:2] == ["Who wrote the letter?", "Summarise it."]
    assert len(asked[2]) < len(passage) / 4 and asked[3] == "Two words"
