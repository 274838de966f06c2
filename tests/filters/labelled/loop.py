"""Stuck loops of several kinds, and repetition that is the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import texts
from tests.filters.labelled.rows import Row

_REQUESTS = (
    "Tell me a story.", "Summarise the article.", "What is 87 plus 2?", "How old is the bridge?", "Say hi",
    "Janet has 3 apples and buys 5 more. How many does she have?", "Explain how tides work.", "List facts about water.",
    "Describe Rome.", "Find the sum of the first ten odd numbers.", "Solve for x: 3x + 4 = 10.", "Write a poem.",
    "Translate the sentence into German.", "Write a function that adds two numbers.", "Erzähle eine Geschichte.",
)  # fmt: skip
_STUCK = (
    "ha ", "the ", "87 + 2 = ", "so it is ", "I am not sure. ", "wait, let me think again, ", "好的", "はい、", "15926",
    "\\frac{1}{2} + ", "x = x + 1\n", "and then, ", "no no ", "very very ", "ответ ", "0.3", "the the of ", "=> ",
    "The answer is 4.\n", "Let me check that. ", "!!!", "<br>", "    return x\n", "\\quad ", "我们知道，", "Ja. ", "a",
)  # fmt: skip


def good(data: Path | None) -> Iterator[Row]:
    """Matrices, digits, grids, rules of tables, patterns, refrains and repetitions that were asked for."""
    for n in range(60):
        random = Random(f"loop good {n}")
        key, size, times = str(n), random.randint(8, 16), random.choice((30, 50, 60, 100, 150, 200))
        digit = random.choice("0136789")
        row = " & ".join("0" * size)
        matrix = " \\\\\n".join([row] * size)
        ask = random.choice(
            ("Write the {0} by {0} zero matrix in LaTeX.", "Give the zero matrix of size {0} in LaTeX.")
        )
        yield Row("matrix", key, ask.format(size), f"\\begin{{pmatrix}}\n{matrix}\n\\end{{pmatrix}}")
        wrapped = f"The matrix is $\\begin{{bmatrix}} {' & '.join(digit * 30)} \\end{{bmatrix}}$, a row of {digit}s."
        yield Row("row of a matrix", key, "What does the matrix look like?", wrapped)
        yield Row("decimals", key, f"Give {digit}/9 to {times} decimal places.", f"0.{digit * max(times, 130)}")
        pattern = random.choice(("01", "10", "001", "12", "ab", "xy", "abc"))
        ask = random.choice(("Write {} a hundred times.", "Repeat {} sixty times.", "Print {} 80 times in a row."))
        yield Row("pattern that was asked for", key, ask.format(pattern), pattern * 100)
        word = random.choice(("ha", "hello world", "I will not talk in class.", "buffalo", "yes", "na"))
        ask = random.choice(("Write {} {n} times.", "Say {} {n} times, please.", "Type {} over and over, {n} times."))
        yield Row("word that was asked for", key, ask.format(word, n=times), " ".join([word] * times))
        grid = "\n".join([random.choice(("0 ", ".", "# ", "⬜", "0,")) * size] * size)
        ask = random.choice(("Print a {0}x{0} board.", "Draw a {0} by {0} grid.", "Show an empty {0}*{0} matrix."))
        yield Row("grid", key, ask.format(size), grid)
        head = "| " + " | ".join(f"c{i}" for i in range(size * 2)) + " |"
        ask = f"Start a Markdown table with {size * 2} columns."
        yield Row("rule of a table", key, ask, f"{head}\n|{'---|' * (size * 2)}")
        yield Row(
            "table of zeros",
            key,
            "Give the counts as a table.",
            f"{head}\n|{'---|' * (size * 2)}\n|{' 0 |' * (size * 2)}",
        )
        song = "\n".join(["La la la, la la la la,"] * 8 + [texts.sentence(random)] + ["La la la, la la la la,"] * 8)
        yield Row("refrain", key, "Write the chorus of a song.", song)
        code = f"```python\nboard = [{', '.join(['[0, 0, 0]'] * size)}]\nprint(board)\n```"
        yield Row("list of zeros", key, "Write the board as a list in Python.", code)
        terms = " + ".join([f"\\frac{{1}}{{{digit}u}}"] * size)
        yield Row(
            "sum of equal terms", key, "Prove the inequality.", f"By AM-GM,\n\\[{terms} \\ge {size}.\\]Hence it holds."
        )
        steps = "\n".join(f"{i} * {size} = {i * size}" for i in range(1, 20))
        yield Row("multiplication table", key, f"Multiplication table of {size}?", steps)
        rule = random.choice("-=*_~") * times
        yield Row(
            "line of dashes",
            key,
            "Show the heading with a line below it.",
            f"Heading\n{rule}\n{texts.sentence(random)}",
        )
        said = random.choice(("tick tock", "ab", "na na", "Hello!", "1 2 3"))
        loop = random.choice(
            ("What is printed?\nfor _ in range({n}): print('{s}')", "What does print('{s}\\n' * {n}) output?")
        )
        yield Row("output of a program", key, loop.format(n=times, s=said), f"{said}\n" * times)
        yield Row("unary", key, f"Write {times + 120} in unary.", "1" * (times + 120))
        nulls = f"[{', '.join([random.choice(('null', 'true', '0'))] * times)}]"
        yield Row("array of literals", key, "Write a test input in JSON.", nulls)
        label = random.choice(("positive", "True", "not spam"))
        labels = "\n".join(f"{i}. {label}" for i in range(1, 26))
        yield Row("equal labels", key, "Classify each of the 25 reviews.", labels)
        zeros = "1" + "0" * (100 + n)
        yield Row("large number", key, f"What is 10 to the power of {100 + n}?", zeros)


def bad(data: Path | None) -> Iterator[Row]:
    """Words, sentences, paragraphs, numbered items and characters, again and again; to the end of the text or not."""
    for n in range(90):
        random = Random(f"loop bad {n}")
        key, request = str(n), random.choice(_REQUESTS)
        start = texts.prose(random, random.randint(1, 4))
        unit = random.choice(_STUCK)
        times = max(10, 160 // len(unit.encode())) + random.randint(0, 60)
        yield Row("stuck unit", key, request, f"{start} {unit * times}")
        sentence = texts.sentence(random, random.choice(texts.LANGUAGES))
        yield Row("stuck sentence", key, request, f"{start} " + f"{sentence} " * random.randint(7, 60))
        paragraph = texts.prose(random, random.randint(2, 4))
        yield Row("stuck paragraph", key, request, "\n\n".join([paragraph] * random.randint(6, 20)))
        fact = texts.sentence(random)[:-1].lower()
        items = range(1, random.randint(12, 60))
        yield Row("numbered items", key, request, "\n".join(f"{i}. Fact number {i} is that {fact}." for i in items))
        item = random.choice(("Apple", "Blue", "Clean the room", "Creative", "Überblick", "Open the door"))
        wordy = "\n".join(f"{i}. {item}" for i in range(1, random.randint(24, 60)))
        yield Row("numbered list of one item", key, random.choice(("List fruit.", "Name some things.", request)), wordy)
        words = ("Print the array of digits.", "Compute the factorial of a digit.", "Draw the map of the town.")
        behind = f"{texts.program(random)[1] * 3}\n{random.choice('!=~') * 150}"
        yield Row("run of a sign behind programs", key, random.choice(words), behind)
        tail = texts.prose(random, 2)
        yield Row("loop that ends", key, request, f"{start} {f'{texts.sentence(random)} ' * 12}{tail}")
        cut = f"{sentence} " * random.randint(9, 40)
        yield Row(
            "stuck sentence, cut off", key, request, cut[: len(cut) - random.randint(1, max(2, len(sentence) // 2))]
        )
