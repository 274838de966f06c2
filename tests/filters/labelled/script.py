# ruff: noqa: E501
"""Texts in other scripts, and texts that ask for them or need a few foreign letters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled import foreign, texts
from tests.filters.labelled.rows import Row

_FEW = (
    ("Prove that ℵ₀ < 2^ℵ₀.", "By Cantor's argument א₀ is less than 2^א₀."), ("Which Hebrew letter denotes cardinals?", "א"),
    ("What is the Greek alphabet?", "α β γ δ ε ζ η θ ι κ λ μ ν ξ ο π ρ σ τ υ φ χ ψ ω"), ("Define Ш(E/K).", "It is the group Ш."),
    ("Print hello in a loop.", "```python\nfor x in range(3):\n    print('你好世界，欢迎来到这里')\n```"), ("What is 大?", "大 means big."),
    ("What does こんにちは mean?", "It means hello."), ("Solve ∫ x² dx.", "x³/3 + C, with ∀x ∈ ℝ and 𝔼[X] = μ"),
    ("How do you pronounce Москва?", "Москва is pronounced mask-VAH."), ("Who wrote it?", "Лев (Leo) Tolstoy wrote the novel in 1869."),
    ("Which kanji means mountain?", "山"), ("Name the letters of the Cyrillic alphabet.", "а б в г д е ж з и й к л м н о п"),
    ("Write the first letters of the Arabic alphabet.", "ا ب ت ث ج"), ("Where is it?", "It is in Tōkyō (東京), in the east."),
    ("Convert the pinyin ni hao to characters.", "你好"), ("Romanize 東京.", "Tōkyō"), ("What is ½ + ¼?", "¾ ≈ 0.75 ✓"),
)  # fmt: skip


def good(data: Path | None) -> Iterator[Row]:
    """Requests for other scripts, and English with a few foreign letters."""
    for n in range(12):
        random = Random(f"script good {n}")
        for language in foreign.NON_LATIN:
            yield Row(f"request {language}", str(n), *foreign.request(random, language))
        for place, (instruction, response) in enumerate(_FEW):
            yield Row(
                "few letters", f"{n} {place}", instruction, f"{response} {texts.sentence(random)}" if n else response
            )
        for language in ("de", "fr", "es", "it", "pl", "vi", "tr"):
            yield Row(
                f"latin {language}", str(n), foreign.prose(random, 1, language), foreign.prose(random, 3, language)
            )


def bad(data: Path | None) -> Iterator[Row]:
    """Records in another script, and responses in one that nobody asked for."""
    for n in range(24):
        random = Random(f"script bad {n}")
        for language in foreign.NON_LATIN:
            text = foreign.prose(random, random.randint(1, 4), language)
            yield Row(f"record {language}", str(n), foreign.prose(random, 1, language), text)
            yield Row(f"response {language}", str(n), random.choice(foreign.ASKS), text)
            yield Row(f"instruction {language}", str(n), text, texts.sentence(random))
