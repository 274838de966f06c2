"""Texts that stop in the middle, and complete ones that end as if they did.

Complete texts are cut at a random place in their second half. A cut that leaves a complete text is no truncation, so
prose is cut within a sentence of which three words are left, programs and data where a bracket or a fence is open, and
LaTeX within a formula.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_MARKS = (
    ("Separator of the file?", "The fields of this file are separated by ,"),
    ("Assignment operator of Pascal and of C?", "The assignment operator of C is ="),
    ("Which mark opens a list in Python?", "A list in Python begins with the character ["),
    ("Most common English word?", "The most common word of English is the"),
    ("Which word is missing: salt ___ pepper?", "The word that is missing is and"),
    ("Name the definite article.", "The definite article of English is the"),
    ("Which symbol separates columns in LaTeX?", "Columns are separated by the character &"),
    ("Which sign says smaller?", "The sign that says smaller is <"),
    ("Which escape character does TeX have?", "In TeX every command begins with a \\"),
    ("Continue with one word: neither here nor there, but", "neither here nor there, but the"),
    ("Complete the phrase with the next word: ladies", "ladies and gentlemen and"),
    ("Which conjunction joins the clauses?", "The clauses are joined by the conjunction but"),
    ("Which preposition or conjunction?", "It is used as a conjunction: because"),
    ("What does a dictionary literal start with?", "A dictionary literal of Python starts with {"),
    ("Which article stands before 'apple'?", "Before the word apple stands the article an"),
    ("Which punctuation mark introduces a list?", "A list is usually introduced by the mark :"),
    ("Which possessive pronoun fits?", "The pronoun that fits in the gap is their"),
    ("What was the film like?", "It was a very sad and long film :-("),
    ("How do you feel about it?", "I love you all so much <3"),
    ("What should I write at the top?", "At the top of the letter you should write:\nDear Sir or Madam,"),
)
_ENDINGS = (
    "Best wishes,\nAnna", "Yours sincerely, the committee", "#travel #harbour", "See https://example.org/harbour",
    "The answer is 42", "So the answer is (B)", "#### 17", "- the end", "P.S. Bring a coat :)", "The End",
    "Total: $5", "(to be continued)", "\"Never again\"", "— Mark Twain", "Thank you", "1. First\n2. Second\n3. Third",
    "* apples\n* pears\n* plums", "| a | b |\n|---|---|\n| 1 | 2 |", "Therefore $x = 4$", "**Done**", "x = 4", "🙂",
)  # fmt: skip
_LETTERS = (
    ("Hi Carol,", "Best,"), ("Dear Ben,", "Kind regards,"), ("Hello all,", "Cheers,"),
    ("Dear Mum,", "Your loving son,"),
    ("Liebe Eva,", "Viele Grüße,"), ("Bonjour Luc,", "Cordialement,"), ("Hola Ana,", "Un abrazo,"),
    ("Subject: notes\n\nHi Carol,", "Thanks,"), ("Ciao Aldo,", "Cordiali saluti,"), ("Dear Sir,", "Yours faithfully,"),
)  # fmt: skip
_WORDS = (
    "Casey met my wife. What will others want to do next?",
    "How long does the trip take to complete?",
    "Which article of the law was changed? Explain its key words.",
    "When does the show start?",
)
_DANGLING = (
    "and", "or", "because", "the", "an", "their", "whose", "although", "than", "my", "of the", "such as the", "and the",
    "in order to reach the", "as well as",
)  # fmt: skip


def good(data: Path | None) -> Iterator[Row]:
    """Complete texts that end without a full stop, in a mark or in a small word."""
    for n, (question, answer) in enumerate(_MARKS):
        for m, shape in enumerate(("{}", "Answer the question.\n{}", "{} Answer in a sentence.", "Question: {}")):
            yield Row("ends in the mark that is asked for", f"{n}.{m}", shape.format(question), answer)
    for n in range(240):
        random = Random(f"truncated good {n}")
        body = texts.prose(random, random.randint(2, 9))
        ending = random.choice(_ENDINGS)
        yield Row("ends without a full stop", str(n), "Tell me about it.", f"{body}\n\n{ending}")
        yield Row("no full stop at all", str(n), "Say it in one sentence.", texts.sentence(random)[:-1])
        salutation, formula = random.choice(_LETTERS)
        letter = f"{salutation}\n\n{body}\n\n{formula}"
        yield Row("letter without a name", str(n), "Write a short mail to a friend.", letter)
        yield Row("two formulas and a stray dollar", str(n), "Solve it.", f"It costs 5$. {texts.solution(random)}")
        head, *lines = texts.program(random)[1].split("\n")
        code = "\n".join([head, *lines])
        yield Row("rest of a program", str(n), f"Complete it:\n```\n{head}\n", "\n".join(lines) + "\n```")
        shapes = (
            "````\n```\n{}\n```\n````",
            "~~~\n{}\n```\n~~~",
            "- a\n\n  ```\n{}\n  ```",
            "```sh\ncat <<E\n```x\nE\n```",
        )
        yield Row("nested fences", str(n), "Show a fence.", random.choice(shapes).format(code))


def bad(data: Path | None) -> Iterator[Row]:
    """Prose, programs, LaTeX, data, tables and lists, cut at a random place."""
    for n in range(60):
        random = Random(f"truncated bad {n}")
        key = str(n)
        for language in texts.LANGUAGES:
            yield Row(f"prose {language}", key, "Tell me about it.", _cut_prose(random, language))
        program_language, code = texts.program(random)
        fenced = f"{texts.sentence(random)}\n\n```{program_language}\n{code}"
        yield Row("fenced program", key, "Write a program.", _cut(random, fenced, len(fenced) - len(code)))
        while code.count("{") < 3:
            _, code = texts.program(random)
        yield Row("program", key, "Write a program.", _cut_open(random, code))
        yield Row("formula", key, "Solve it.", _cut_formula(random))
        data_rows = [{"id": i, "place": random.choice(texts.TOPICS), "tags": [i, i + 1]} for i in range(9)]
        yield Row(
            "json", key, "Give the data as JSON.", _cut_open(random, json.dumps(data_rows, indent=n % 2 * 2 or None))
        )
        items = [f"{i}. {texts.sentence(random)}" for i in range(1, random.randint(4, 9))]
        yield Row("list", key, "List some facts.", "\n".join(items) + f"\n{len(items) + 1}.")
        *whole, last = items
        cut = " ".join(last.split()[: random.randint(6, 8)])
        yield Row("last item", key, "List some facts.", "\n".join([*whole, cut]))
        table = texts.markdown_table(random)
        yield Row("last row of a table", key, "Give a table.", table.rsplit("|", 2)[0] + "|")
        page = "<html>\n<body>\n" + "\n".join(f"<p>{texts.sentence(random)}</p>" for _ in range(4)) + "\n<div class="
        yield Row("page", key, "Write a page.", page[: random.randint(len(page) // 2, len(page))])
        body = texts.prose(random, random.randint(1, 5))
        yield Row("words in the request", key, random.choice(_WORDS), f"{body} {texts.sentence(random)[:-1]} and the")
        yield Row("dangling word", key, "Tell me.", f"{body} {texts.sentence(random)[:-1]} {random.choice(_DANGLING)}")
        yield Row(
            "open mark", key, "Tell me.", f"{body} {texts.sentence(random)[:-1]}{random.choice((',', ' (', ':', ' –'))}"
        )


def _cut(random: Random, text: str, start: int) -> str:
    return text[: random.randint(start + 1, len(text) - 1)]


def _cut_prose(random: Random, language: str) -> str:
    text = texts.prose(random, random.randint(4, 14), language)
    while True:
        cut = _cut(random, text, len(text) // 2)
        fragment = cut.replace("\n\n", "。" if language == "zh" else ". ")
        fragment = fragment.rsplit("。" if language == "zh" else ". ", 1)[-1]
        if len(fragment) >= 5 if language == "zh" else len(fragment.split()) >= 3 and cut[-1] != ".":
            return cut


def _cut_open(random: Random, code: str) -> str:
    while True:
        cut = _cut(random, code, len(code) // 3)
        if any(cut.count(opening) > cut.count(closing) for opening, closing in ("()", "[]", "{}")):
            return cut


def _cut_formula(random: Random) -> str:
    while True:
        cut = _cut(random, texts.solution(random), 40)
        inline = cut.replace("\\$", "").count("$") % 2
        if inline or any(cut.count(a) > cut.count(b) for a, b in (("\\[", "\\]"), ("\\begin", "\\end"))):
            return cut
