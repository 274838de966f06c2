"""Texts that look like evaluation items and contain none: laws, licences, code, frames of questions, passages, forms.

There are two kinds. Written texts are common sentences and code, filled in with names, numbers and nouns, so that each
of the several hundred is a different text. Derived texts are made from items: what items share with each other, bodies
and signatures with another question, and two items of one template crossed.
"""

# ruff: noqa: E501  (a text is as long as it is)

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

PLACES = ("Aldmoor", "Brackwater", "Corvale", "Dunholt", "Eastfen", "Farrowby", "Glenmarsh", "Hollin Bay")
THINGS = ("harbour dues", "footpaths", "dairy herds", "street lighting", "allotments", "ferry tolls", "rain gauges")
NAMES = ("Amira", "Boris", "Chiara", "Dong-hyun", "Efua", "Farid", "Greta", "Hiro", "Ines", "Jomo")
NOUNS = ("ledger", "kiln", "turnip", "compass", "lantern", "saddle", "trellis", "anvil", "quilt", "weir")
VERBS = ("count", "weigh", "sort", "merge", "label", "rotate", "trim", "pair")

LAWS = (
    "Be it enacted by the Senate and House of Representatives of the United States of America in Congress assembled, "
    "That this Act may be cited as the {place} {thing} Act of {year}.",
    "Sec. {n}. Definitions. In this Act, the term 'authority' means the {place} authority for {thing}, and includes any "
    "person acting under its direction. The term 'resident' has the meaning given in section {m}.",
    "No person shall be deprived of life, liberty, or property, without due process of law; nor shall any bye-law of "
    "{place} on {thing} be made to have effect before the first day of the month after its publication.",
    "Whoever, contrary to section {n}, interferes with {thing} in {place} shall be liable on summary conviction to a "
    "fine not exceeding {m} pounds or to imprisonment for a term not exceeding six months, or to both.",
    "A contract for {thing} is voidable where one party was induced to enter into it by a material misrepresentation. "
    "The plaintiff bears the burden of proof by a preponderance of the evidence (see {place} Code, title {n}).",
    "The court granted the defendant's motion for summary judgment, holding that the ordinance of {place} on {thing} was "
    "a valid exercise of the police power and did not violate the equal protection clause of the Fourteenth Amendment.",
    "This Agreement shall be governed by and construed in accordance with the laws of {place}, without regard to its "
    "conflict of laws principles. Any dispute on {thing} shall be settled by arbitration before {m} arbitrators.",
    "We the undersigned, being residents of {place}, hold these truths to be self-evident: that all are created equal, "
    "and that {thing} are owed alike to each of us, whatever the council of {year} may have resolved.",
)  # fmt: skip

LICENCES = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated "
    "documentation files (the \"Software\"), to deal in the Software without restriction, including without limitation "
    "the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software.",
    "Licensed under the Apache License, Version 2.0 (the \"License\"); you may not use this file except in compliance with "
    "the License. Unless required by applicable law or agreed to in writing, software distributed under the License is "
    "distributed on an \"AS IS\" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.",
    "Redistribution and use in source and binary forms, with or without modification, are permitted provided that the "
    "following conditions are met: 1. Redistributions of source code must retain the above copyright notice, this list "
    "of conditions and the following disclaimer.",
    "This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public "
    "License as published by the Free Software Foundation, either version 3 of the License, or any later version.",
    "THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO "
    "THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.",
    "This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of the MPL was not "
    "distributed with this file, you can obtain one at the address given in NOTICE.",
    "This work is licensed under a Creative Commons Attribution-ShareAlike licence. You are free to share and adapt the "
    "material for any purpose, even commercially, under the condition that you give appropriate credit.",
    "By using this site you agree to our Terms of Service and acknowledge that you have read our Privacy Policy. We use "
    "cookies to improve your experience. All rights reserved. No part of this publication may be reproduced.",
)  # fmt: skip
COMMENTS = ("{}", "# {}", "/* {} */", "// {}", "<!-- {} -->", "-- {}", '"""{}"""')

CODE = (
    "from typing import List\n\n\ndef {verb}_{noun}s({noun}s: List[int]) -> List[int]:\n    result = []\n    for i in range(len({noun}s)):\n        result.append({noun}s[i] + {n})\n    return result",
    "def {verb}_{noun}(value: int) -> bool:\n    \"\"\" Return True if the {noun} is larger than {n}, and False otherwise.\n    >>> {verb}_{noun}({m})\n    True\n    \"\"\"\n    return value > {n}",
    "if __name__ == '__main__':\n    import sys\n    parser = argparse.ArgumentParser()\n    parser.add_argument('--{noun}', type=int, default={n})\n    sys.exit(main(parser.parse_args()))",
    "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt\n\ndf = pd.read_csv('{noun}.csv')\ndf = df.dropna().head({n})\nplt.plot(df['{verb}'])\nplt.show()",
    "for (int i = 0; i < {n}; i++) {{ for (int j = 0; j < {m}; j++) {{ {noun}[i][j] += 1; }} }} return {noun};",
    "const {noun} = require('{noun}');\nmodule.exports = {{ {verb}: (req, res) => res.status(200).json({{ ok: true, id: {n} }}) }};",
    "SELECT {noun}_id, COUNT(*) AS total FROM {noun}s WHERE created_at >= '20{n:02}-01-01' GROUP BY {noun}_id ORDER BY total DESC LIMIT {m};",
    "public static void main(String[] args) {{ Scanner in = new Scanner(System.in); int n = in.nextInt(); System.out.println({verb}(n, {m})); }}",
    "class Solution:\n    def {verb}{n}(self, nums: List[int], target: int) -> int:\n        left, right = 0, len(nums) - 1\n        while left <= right:\n            mid = (left + right) // 2\n        return -1",
    "try:\n    with open('{noun}.json') as f:\n        data = json.load(f)\nexcept FileNotFoundError:\n    data = {{'{verb}': {n}}}",
    "def is_prime(n):\n    if n < 2:\n        return False\n    for i in range(2, int(n ** 0.5) + 1):\n        if n % i == 0:\n            return False\n    return True\n\nprint([{verb} for {verb} in range({n}, {m}) if is_prime({verb})])",
    "\\documentclass{{article}}\n\\usepackage{{amsmath}}\n\\begin{{document}}\nLet $f(x) = x^2 + {n}x$ be the {noun} function. Then $f({m})$ is real.\n\\end{{document}}",
)  # fmt: skip

FRAMES = (
    "The following are multiple choice questions (with answers) about {noun} making.\n\nWhich tool does {name} need to {verb} a {noun}?\nA. a brush\nB. a ladle\nC. {n} nails\nD. none of the above\nAnswer:",
    "Please choose the correct answer to the question: Where would {name} keep a {noun}?\n\nAnswer1: in the attic Answer2: under the bridge Answer3: at the {other} Answer4: nowhere\n\nAnswer format: answer1/answer2/answer3/answer4",
    "Please answer the following question with true or false, question: is a {noun} the same as a {other} in {place}?\n\nAnswer format: true/false",
    "Please choose the correct solution to the question: How do I {verb} a {noun} for {name}?\n\nSolution1: Use a {other}. Solution2: Wait {n} days.\n\nAnswer format: solution1/solution2",
    "Please choose the correct answer to fill in the blank to complete the given sentence: {name} gave the {noun} to the smith because _ was broken.\n\nOption1: the {other} Option2: the {noun} Answer format: option1/option2",
    "Question: {name} has {n} {noun}s and buys {m} more. How many {noun}s does {name} have now?\nLet's think step by step, and put the final answer within \\boxed{{}}.",
    "Read the passage below and answer the question that follows. Answer yes or no and explain your reasoning.\n\nPassage: {name} sold the {noun} in {place}.\nQuestion: Did {name} keep the {noun}?",
    "Which of the following statements about the {noun} is true? Choose the best answer.\n(A) It is heavier than a {other}. (B) It is lighter. (C) Both A and B. (D) Neither A nor B.",
    "What is the value of $x + {n}$? Express your answer as a common fraction in simplest form. (The {noun} shows $x = {m}$.)",
    "Find the number of ways in which {name} can arrange {n} {noun}s in a row such that no two {other}s are adjacent.",
    "Which of the following best describes the relationship between the {noun} and the {other}? Select all that apply, then state your confidence from 1 to {n}.",
    "In the passage, the author uses the word \"{noun}\" most nearly to mean\nA. a {other}\nB. a custom of {place}\nC. a debt\nD. a delay",
    "For which of these two scenarios does the main character (who uses I/me/my) do something clearly morally wrong? Scenario 1 | I sold {name}'s {noun}. Scenario 2 | I mended the {other}.",
    "Complete the function below.\n\n```python\ndef {verb}_{noun}(x):\n    \"\"\"Write a function that returns the {noun} of x.\"\"\"\n```\nRespond with the code only.",
    "Determine whether the argument is deductively valid: every {noun} is a {other}; {name} owns a {noun}; hence {name} owns a {other}.\nOptions:\n- valid\n- invalid",
    "Which sentence has the correct adjective order:\nOptions:\n(A) {name}'s old small {noun}\n(B) {name}'s small old {noun}",
    "If you follow these instructions, do you return to the starting point? Take {n} steps. Turn left. Take {m} steps.\nOptions:\n- Yes\n- No",
)  # fmt: skip

PROSE = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. If a question on the {noun} does not make any sense, explain why instead of answering something not correct.",
    "The mitochondrion is often called the powerhouse of the cell. {name} drew one on a {noun}, and photosynthesis on the {other} beside it, where light, water and carbon dioxide become sugar and oxygen.",
    "According to the census of {year}, there were {n},{m} people residing in {place}. The population density was {m} per square mile, and {n} percent of households kept a {noun}.",
    "In the first quarter, {place} took the lead with a {n}-yard field goal. In the second, {name} scored from {m} yards, and the {noun} stood at half-time.",
    "The area of a circle is pi times the square of its radius; the sum of the angles of a triangle is 180 degrees. {name} measured a {noun} of radius {n} to see it.",
    "Preheat the oven to {n}0 degrees. In a large bowl, mix the flour, sugar and salt, then add the eggs one at a time. Bake for {m} minutes or until golden brown. Serve {name} first.",
    "Dear {name}, thank you for your order of {n} {noun}s. It will be delivered to {place} within {m} working days. Please do not reply to this message.",
    "The supply curve slopes upward and the demand curve downward; where they cross, the market for the {noun} clears. A price ceiling of {n} below it makes a shortage in {place}.",
    "Water boils at 100 degrees Celsius at sea level. In {place}, {n} metres up, {name} found that the {noun} took {m} minutes longer.",
    "On the other hand, it has been argued that the causes of the war lay in the {noun} trade of {place}; see, for example, the letters of {name} ({year}).",
)  # fmt: skip


def filled(templates: Sequence[str], each: int, dice: random.Random) -> list[str]:
    """Every template `each` times, filled in differently."""
    return [
        template.format(
            place=dice.choice(PLACES), thing=dice.choice(THINGS), name=dice.choice(NAMES), noun=dice.choice(NOUNS),
            other=dice.choice(NOUNS), verb=dice.choice(VERBS), n=dice.randint(12, 98), m=dice.randint(101, 997),
            year=dice.randint(1790, 1950),
        )
        for template in templates
        for _ in range(each)
    ]  # fmt: skip


def written() -> dict[str, list[str]]:
    """About 600 texts by kind, the same on every call."""
    dice = random.Random(11)
    licences = [
        mark.format(f"Copyright (c) {dice.randint(1995, 2024)} {dice.choice(NAMES)}. {text}")
        for text, mark in itertools.product(LICENCES, COMMENTS)
    ]
    return {
        "laws": filled(LAWS, 12, dice),
        "licences": licences,
        "code idioms": filled(CODE, 12, dice),
        "frames of questions": filled(FRAMES, 12, dice),
        "public prose": filled(PROSE, 12, dice),
    }


class Question(NamedTuple):
    """The parts of an item that derived texts are made from."""

    id: str
    question: str
    choices: Sequence[str] = ()
    passage: str = ""


def other_docstring(item: Question) -> str | None:
    """A function's imports and signature with another docstring."""
    signature = re.match(r"(?s)(.*?def [^\n]*:\n)\s*(\"\"\"|''')", item.question)
    if not signature:
        return None
    return signature[1] + '    """Print the arguments one under another, for the log."""\n    print(locals())\n'


def passage_with_other_question(item: Question) -> str | None:
    """A passage with a question of this project."""
    return f"{item.passage}\n\nQuestion: Who would enjoy reading this, and why?" if item.passage else None


def renumbered(item: Question) -> str | None:
    """Every number replaced by another."""
    if not re.search(r"\d", item.question):
        return None
    return re.sub(r"\d+", lambda m: str(int(m[0]) + 3 if len(m[0]) < 6 else 7), item.question)


def choices_alone(item: Question) -> str | None:
    """The choices under a question of this project."""
    if len(item.choices) < 3 or min(len(choice.split()) for choice in item.choices) < 2:
        return None
    return "Put these into the order of the alphabet:\n" + "\n".join(f"- {choice}" for choice in item.choices)


def first_half(item: Question) -> str | None:
    """A long question's first half, in the middle of a sentence."""
    words = item.question.split()
    return (
        f"She had begun to write {' '.join(words[: len(words) // 2])} and then the ink ran out."
        if len(words) >= 30
        else None
    )


DERIVED: dict[str, Callable[[Question], str | None]] = {
    "other numbers": renumbered,
    "passage, another question": passage_with_other_question,
    "signature, another docstring": other_docstring,
    "choices, another question": choices_alone,
    "half of a question": first_half,
}


def other_question(items: Sequence[Question]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A long question's body with another question at its end: public text that an item quotes.

    Only items whose last sentence is their own. If many items end with the same sentence, the body is the item.
    """
    cut = [re.split(r"(?<=[.?!])\s+|\n+", item.question.strip()) for item in items]
    last = Counter(re.sub(r"\b[A-Z]\w*", "", sentences[-1]) for sentences in cut)  # without names
    for item, (*body, asks) in zip(items, cut, strict=True):
        if len(" ".join(body).split()) >= 60 and len(asks.split()) >= 5 and last[re.sub(r"\b[A-Z]\w*", "", asks)] == 1:
            text = " ".join(body) + " Who would enjoy reading this aloud, and in which room of the house?"
            yield text, (item.id,)


def crossed(items: Sequence[Question]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Two neighbouring long questions crossed: what both share, around the first half of the one's own words and the
    second half of the other's. For items of one template that is a third item."""
    for one, two in itertools.pairwise(items):
        first, second = one.question.split(), two.question.split()
        head = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
        first, second = first[head:], second[head:]
        ends = zip(reversed(first), reversed(second), strict=False)
        tail = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
        ending = second[len(second) - tail :]
        first, second = first[: len(first) - tail], second[: len(second) - tail]
        if one.id.rsplit("/", 1)[0] == two.id.rsplit("/", 1)[0] and min(len(first), len(second)) >= 16:
            own = first[: len(first) // 2] + second[len(second) // 2 :]
            yield " ".join(one.question.split()[:head] + own + ending), (one.id, two.id)
