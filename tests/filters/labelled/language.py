# ruff: noqa: E501
"""Texts in other languages, and texts that ask for them or hold no language at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import foreign, texts
from tests.filters.labelled.rows import Row

_NO_LANGUAGE = (
    ("Evaluate \\[\\begin{vmatrix} y + 1 & y & y \\\\ y & y + 1 & y \\\\ y & y & y + 1 \\end{vmatrix}.\\]", "3y + 1"),
    ("Compute $i^{-100}+i^{-99}+i^{-98}+\\cdots+i^{99}+i^{100}$.", "1"), ("x^2+2x+1=0, y^3-1=0, z^2+x^2=1", "x=-1, y=1, z=0"),
    ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", "3.14159 2.71828 1.41421 1.73205 0.57721"),
    ("!!!! ???? #### $$$$ %%%% ^^^^ &&&& ****", "== != <= >= && || ++ -- ** // %% ^^ ~~ << >>"), ("\u3000" * 50, "\u3000" * 60),
    ("SELECT NAME FROM USERS WHERE ID = 3 ORDER BY NAME", "SELECT NAME, AGE FROM PERSON WHERE AGE > 30 LIMIT 10;"),
    ("celsius to fahrenheit in js", "function toFahrenheit(celsius) {\n  return celsius * 9 / 5 + 32;\n}\nconsole.log(toFahrenheit(celsius));"),
    ("https://example.org/de/seite/ueber-uns.html https://example.org/fr/accueil", "https://example.org/es/inicio/nosotros"),
    ("LIST ALL ITEMS OF A SHOP", "MILK, BREAD, BUTTER, SUGAR, FLOUR, SALT, COFFEE, GREEN TEA, RED WINE"),
    ("WRITE A HEADLINE", "MAYOR OPENS NEW BRIDGE, CROWDS GATHER DESPITE HEAVY RAIN"), ("LOUD WORDS PLEASE", "STOP RUNNING NOW! BIG DOGS AHEAD!"),
    ("Name composers.", "Johann Sebastian Bach, Wolfgang Amadeus Mozart, Ludwig van Beethoven, Franz Schubert, Robert Schumann"),
    ("Name cities of California.", "Los Angeles, San Francisco, San Diego, San Jose, Sacramento, Santa Cruz, El Cajon"),
    ("Name Italian dishes.", "Spaghetti, penne rigate, tagliatelle, orecchiette, farfalle, rigatoni, linguine"),
    ("National dishes of Italy?", "- Ragu alla Bolognese\n- Risotto\n- Spaghetti alla Carbonara\n- Fiorentina\n- Polenta\n- Ossobuco"),
    ("Latin names of animals?", "Canis lupus, Felis catus, Homo sapiens, Ursus arctos, Panthera leo, Equus ferus"),
    ("Sort: pera manzana uva melon kiwi platano fresa cereza", "cereza fresa kiwi manzana melon pera platano uva"),
    ("Reverse the letters of: stressed desserts", "stressed desserts desserts stressed stressed desserts"), ("C-c-combo?", "Du bist."),
    ("Write the JSON.", '{"nombre": "Ana", "edad": 3, "ciudad": "Madrid", "activo": true, "saldo": 10.5}'), ("Oui ou non ?", "Oui."),
    ("Give the DNA strand.", "ATGCGTACCTGAACGTTAGCATGCCGTAAGCTTAACGGTATCGAT ATGCATGCATGC"), ("Say la.", "la la la la la la la la la la la la la"),
)  # fmt: skip


def good(data: Path | None) -> Iterator[Row]:
    """Requests for other languages, English that quotes them, and texts without a language."""
    for n in range(10):
        random = Random(f"language good {n}")
        for language in foreign.LANGUAGES:
            yield Row(f"request {language}", str(n), *foreign.request(random, language))
        for place, (instruction, response) in enumerate(_NO_LANGUAGE):
            yield Row("no language", f"{n} {place}", instruction, response)
        yield Row("capitals", str(n), texts.sentence(random).upper(), texts.prose(random, 2).upper())
        language, code = texts.program(random)
        yield Row("program", str(n), f"{language} please", code)
        yield Row("formulas", str(n), "Solve it.", texts.solution(random))


def bad(data: Path | None) -> Iterator[Row]:
    """Records in another language, and responses in one that nobody asked for."""
    for n in range(12):
        random = Random(f"language bad {n}")
        for language in foreign.LANGUAGES:
            text = foreign.prose(random, random.randint(2, 4), language)
            yield Row(f"record {language}", str(n), foreign.prose(random, 1, language), text)
            yield Row(f"response {language}", str(n), random.choice(foreign.ASKS), text)
            if language not in foreign.NON_LATIN:
                yield Row(f"capitals {language}", str(n), random.choice(foreign.ASKS), text.upper())
