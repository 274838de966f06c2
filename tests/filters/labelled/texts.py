"""Generated texts that the labelled rows are made of: prose in several languages, programs, LaTeX, tables, verse.

All functions draw from a seeded `random.Random`.
"""

from __future__ import annotations

from random import Random

TOPICS = (
    "the harbour", "the old library", "a glass of water", "the night train", "the market", "the weather",
    "a wooden bridge", "the museum", "my garden", "the north wall", "the small bakery", "the river", "a paper map",
    "the orchestra", "the first lighthouse", "a bicycle", "the city council", "the glacier", "the printing press",
)  # fmt: skip
_WHO = (
    "The keeper", "A visitor", "My neighbour", "The engineer", "Her brother", "The committee", "An old sailor",
    "The teacher", "Nobody", "The mayor", "A young doctor", "The historian", "Our guide", "The crew", "A reporter",
)  # fmt: skip
_DID = (
    "described", "painted", "measured", "visited", "remembered", "closed", "repaired", "photographed", "left",
    "criticised", "sold", "compared with others", "walked past", "wrote about", "opened", "surveyed", "rebuilt",
)  # fmt: skip
_LINKS = ("before", "after", "during", "because of", "in spite of", "instead of", "long after", "thanks to")
_KINDS = (
    "long", "quiet", "cold", "sudden", "strange", "second", "bitter", "short", "famous", "careful", "noisy", "golden",
    "foreign", "modest", "rainy", "public", "secret", "slow", "final", "early", "costly", "friendly", "ancient",
)  # fmt: skip
_EVENTS = (
    "morning", "winter", "meeting", "journey", "quarrel", "harvest", "concert", "strike", "visit", "holiday",
    "repair", "election", "lecture", "storm", "dinner", "auction", "rehearsal", "inspection", "wedding", "funeral",
)  # fmt: skip
_ENDS = (
    "although hardly anyone noticed", "while bells were ringing", "with more patience than skill", "without a word",
    "as soon as snow fell", "to general surprise", "since money was short", "for the first time", "as we all know",
    "and smiled", "for reasons of his own", "according to the papers", "in perfect silence", "against all advice",
)  # fmt: skip
_GERMAN = (
    ("Der Lehrer", "Eine Nachbarin", "Der alte Kapitän", "Die Gemeinde", "Ein Besucher", "Das Orchester"),
    ("beschrieb", "besuchte", "malte", "vermaß", "verkaufte", "reparierte", "verließ"),
    ("den Hafen", "die alte Brücke", "das Museum", "den Garten", "den Markt", "die Bibliothek"),
    ("vor dem großen Sturm", "nach einem langen Winter", "ohne ein Wort zu sagen", "im Frühling jenes Jahres"),
)
_FRENCH = (
    ("Le professeur", "Une voisine", "Le vieux marin", "La commune", "Un visiteur", "L'orchestre"),
    ("a décrit", "a visité", "a peint", "a mesuré", "a vendu", "a réparé", "a quitté"),
    ("le port", "le vieux pont", "le musée", "le jardin", "le marché", "la bibliothèque"),
    ("avant la grande tempête", "après un long hiver", "sans dire un mot", "au printemps de cette année-là"),
)
_SPANISH = (
    ("El profesor", "Una vecina", "El viejo marinero", "El ayuntamiento", "Un visitante", "La orquesta"),
    ("describió", "visitó", "pintó", "midió", "vendió", "reparó", "abandonó"),
    ("el puerto", "el puente viejo", "el museo", "el jardín", "el mercado", "la biblioteca"),
    ("antes de la gran tormenta", "después de un largo invierno", "sin decir una palabra", "en la primavera"),
)
_RUSSIAN = (
    ("Учитель", "Соседка", "Старый моряк", "Инженер", "Гость", "Историк"),
    ("описал", "посетил", "нарисовал", "измерил", "продал", "починил", "покинул"),
    ("гавань", "старый мост", "музей", "сад", "рынок", "библиотеку"),
    ("перед большой бурей", "после долгой зимы", "не сказав ни слова", "весной того года"),
)
_CHINESE = (
    ("老师", "邻居", "老水手", "工程师", "客人", "历史学家"),
    ("描述了", "参观了", "画了", "测量了", "卖掉了", "修好了", "离开了"),
    ("港口", "旧桥", "博物馆", "花园", "市场", "图书馆"),
    ("在暴风雨之前", "在漫长的冬天之后", "没有说一句话", "在那年的春天"),
)
_PARTS = {"de": _GERMAN, "fr": _FRENCH, "es": _SPANISH, "ru": _RUSSIAN, "zh": _CHINESE}
LANGUAGES = ("en", *_PARTS)


def _when(random: Random) -> str:
    article = random.choice(("the", "that", "his", "her", "our", "another", "one"))
    return f"{random.choice(_LINKS)} {article} {random.choice(_KINDS)} {random.choice(_EVENTS)}"


def sentence(random: Random, language: str = "en") -> str:
    """One sentence, with its full stop."""
    if language == "en":
        made = f"{random.choice(_WHO)} {random.choice(_DID)} {random.choice(TOPICS)} {_when(random)}"
        return made + random.choice(("", f", and {random.choice(TOPICS)} too", f", {random.choice(_ENDS)}")) + "."
    who, did, what, when = (random.choice(part) for part in _PARTS[language])
    return f"{when}，{who}{did}{what}。" if language == "zh" else f"{who} {did} {what} {when}."


def prose(random: Random, sentences: int, language: str = "en") -> str:
    """Sentences, none of which occurs twice, in paragraphs of about four."""
    made: list[str] = []
    while len(made) < sentences:
        new = sentence(random, language)
        if new not in made:
            made.append(new)
    space = "" if language == "zh" else " "
    return "\n\n".join(space.join(made[i : i + 4]) for i in range(0, len(made), 4))


def program(random: Random) -> tuple[str, str]:
    """A language of programs and a complete program in it, not in a fence."""
    name, field = random.choice(("total", "count", "score", "price")), random.choice(("item", "row", "node", "entry"))
    n = random.randint(2, 60)
    programs = {
        "python": f"def {name}({field}s):\n    result = 0\n    for {field} in {field}s:\n        if {field} > {n}:\n"
        f"            result += {field}\n        else:\n            result -= 1\n    return result\n\n\n"
        f"if __name__ == '__main__':\n    print({name}([{n}, {n + 1}, {n * 2}]))",
        "cpp": f"#include <iostream>\n#include <vector>\n\nint {name}(const std::vector<int>& {field}s) {{\n"
        f"    int result = 0;\n    for (int {field} : {field}s) {{\n        if ({field} > {n}) {{\n"
        f"            result += {field};\n        }}\n    }}\n    return result;\n}}\n\nint main() {{\n"
        f"    std::cout << {name}({{{n}, {n + 1}}}) << std::endl;\n    return 0;\n}}",
        "javascript": f"function {name}({field}s) {{\n  let result = 0;\n  for (const {field} of {field}s) {{\n"
        f"    if ({field} > {n}) {{\n      result += {field};\n    }}\n  }}\n  return result;\n}}\n\n"
        f"console.log({name}([{n}, {n + 1}]));",
        "sql": f"SELECT {field}, SUM({name}) AS {name}_sum\nFROM {field}s\nWHERE {name} > {n}\nGROUP BY {field}\n"
        f"HAVING COUNT(*) < {n + 9}\nORDER BY {name}_sum DESC;",
        "html": f"<ul>\n  <li>{name}</li>\n  <li>{field}</li>\n  <li>{n}</li>\n</ul>\n<table>\n  <tr>\n    "
        f"<td>{n}</td>\n  </tr>\n  <tr>\n    <td>{n + 1}</td>\n  </tr>\n</table>",
        "java": f"public class {name.title()} {{\n    private int {field};\n\n    public {name.title()}(int {field}) "
        f"{{\n        this.{field} = {field};\n    }}\n\n    public int get() {{\n        return {field} + {n};\n"
        f"    }}\n\n    public void set(int {field}) {{\n        this.{field} = {field};\n    }}\n}}",
        "bash": f'#!/bin/bash\nfor {field} in *.txt; do\n  if [ -s "${field}" ]; then\n    wc -l "${field}"\n  fi\n'
        f"done | sort -n | tail -{n}",
    }
    language = random.choice(sorted(programs))
    return language, programs[language]


def solution(random: Random) -> str:
    """The solution of a problem, in LaTeX, with a boxed answer."""
    a, b, x = random.randint(2, 40), random.randint(2, 60), random.choice("xyzntk")
    return random.choice(
        (
            f"Let ${x}$ be the number that we look for. Then ${a}{x} + {b} = {a * b + b},$ so ${a}{x} = {a * b}$ and"
            f"\n\\[{x} = \\frac{{{a * b}}}{{{a}}} = {b}.\\]Therefore, the answer is $\\boxed{{{b}}}$.",
            f"We complete the square:\n\\begin{{align*}}\n{x}^2 - {2 * a}{x} + {a * a - b} &= ({x} - {a})^2 - {b} \\\\"
            f"\n&= 0, \\\\\n({x} - {a})^2 &= {b}.\n\\end{{align*}}Hence ${x} = {a} \\pm \\sqrt{{{b}}}$, and the sum of "
            f"the roots is $\\boxed{{{2 * a}}}$.",
            f"The matrix is\n\\[\\begin{{pmatrix}} {a} & 0 & 0 \\\\ 0 & {a} & 0 \\\\ 0 & 0 & {b} \\end{{pmatrix}},\\]"
            f"whose determinant is ${a} \\cdot {a} \\cdot {b} = \\boxed{{{a * a * b}}}$",
            f"There are $\\binom{{{a + 2}}}{{2}}$ ways to choose the two, and ${b}$ ways to choose the third, so the "
            f"number is $\\binom{{{a + 2}}}{{2}} \\cdot {b} = \\boxed{{{(a + 2) * (a + 1) // 2 * b}}}.$",
        )
    )


def markdown_table(random: Random, rows: int = 8) -> str:
    """A table in Markdown, with a rule after its head."""
    lines = ["| year | place | count |", "|------|-------|-------|"]
    lines += [f"| {1900 + random.randint(0, 99)} | {random.choice(TOPICS)} | {random.randint(0, 3)} |"] * 2
    lines += [f"| {1900 + n} | {random.choice(TOPICS)} | {random.randint(0, 3)} |" for n in range(rows)]
    return "\n".join(lines)


def recurring(random: Random) -> str:
    """A quiz, a plan, recipes, a play, a dialogue, tests or equations: parts with lines that recur between others."""
    lines = [sentence(random) for _ in range(3)]
    new = [sentence(random) for _ in range(random.randint(4, 8))]
    kind = random.randrange(6)
    if kind == 0:
        options = "\n".join(f"{letter}. {line}" for letter, line in zip("ABC", lines, strict=True))
        return "\n".join(f"{i}. Is it true that {line[:-1].lower()}?\n{options}" for i, line in enumerate(new, 1))
    if kind == 1:
        plan = "\n".join(line[:-1] for line in lines)
        return "\n".join(f"Day {i}\n{plan}" for i, _ in enumerate(new, 1))
    if kind == 2:
        return "\n\n".join(f"Recipe {i}\n1. {lines[0]}\n2. {new[i]}\n3. {lines[1]}" for i in range(len(new)))
    if kind == 3:
        return "\n".join(f"ANNA: {line}\n({lines[i % 2]})\nBEN: {lines[2]}" for i, line in enumerate(new))
    if kind == 4:
        tests = (f"def test_{i}():\n    # {lines[0][:-1]}\n    assert add({i}) == {i + 1}" for i in range(12))
        return "\n\n".join(tests)
    return "\n\n".join(f"{i}x = {3 * i}\n{lines[0]}\nx = {3 * i}/{i}\n{lines[1]}\nx = 3" for i in range(2, 8))


def verse(random: Random) -> str:
    """A song with a refrain that recurs after each of its stanzas."""
    refrain = f"Oh, sail me home, sail me home,\nPast {random.choice(TOPICS)} and over the foam."
    stanzas = [
        f"{random.choice(_WHO)} looked at {random.choice(TOPICS)},\n{_when(random).capitalize()},\n"
        f"{random.choice(_WHO)} turned to {random.choice(TOPICS)}\nAnd sang to me again."
        for _ in range(random.randint(3, 5))
    ]
    return "\n\n".join(f"{stanza}\n\n{refrain}" for stanza in stanzas)
