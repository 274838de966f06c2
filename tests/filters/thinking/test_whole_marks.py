"""Marks go as a whole or stay as a whole, and the marks of each model are known."""

from __future__ import annotations

import re
from itertools import product

import pytest

from filters.thinking.families import FAMILIES
from tests.filters.thinking.test_kinds import ANSWER, ASK, WHY, check, left_of

FRAMES = [
    "<|{}|>",
    "</|{}|>",
    "<{}|>",
    "<|{}>",
    "[|{}|]",
    "<<{}>>",
    "<|{}|",
    "|{}|>",
    "[[{}]]",
    "\\<|{}|\\>",
    "&lt;|{}|&gt;",
]
NAMES = sorted(
    {re.sub(r"^[<|\[◁/]+|[>|\]▷]+$", "", tag) for family in FAMILIES for tag in (*family.opens, *family.closes)}
)
BRACKETS = r"[<>|\[\]]|&[lg]t;|\\[<>]"


@pytest.mark.parametrize("frame", FRAMES)
def test_no_mark_is_half_eaten(frame: str) -> None:
    names = [name for name in NAMES if name and not re.search(BRACKETS, name)]
    marks = [frame.format(name) for name in names]
    said = [f"{mark}{WHY}{frame.format('end_' + name)}{ANSWER}" for mark, name in zip(marks, names, strict=True)]
    said += [f"{ANSWER} {WHY}{mark}{ANSWER}" for mark in marks]
    wholes = [{mark, frame.format("end_" + name)} for mark, name in zip(marks, names, strict=True)]
    for text, whole, left in zip(said, wholes * 2, left_of([(ASK, text) for text in said]), strict=True):
        rest = left or ""
        for mark in sorted(whole, key=len, reverse=True):
            rest = rest.replace(mark, "")
        assert not re.search(BRACKETS, rest), (text, left)


MODELS = {
    "WebThinker": "<|begin_think|>{why}<|end_think|>{answer}",
    "started": "<|start_think|>{why}<|end_think|>{answer}",
    "Step-Audio": "<|THINK_START|>{why}<|THINK_END|>{answer}",
    "Quiet-STaR": "<|startofthought|>{why}<|endofthought|>{answer}",
    "reasoning first": "<|reasoning_start|>{why}<|reasoning_end|>{answer}",
    "reason": "<reason>{why}</reason>\n{answer}",
    "step-think": "<step-think>{why}</step-think>{answer}",
    "Gemini": "<ctrl94>thought\n{why}<ctrl95>{answer}",
    "Solar Open": "<|think|>{why}<|end|><|begin|>assistant<|content|>{answer}<|end|>",
    "Solar Open, flushed": "<|think|>{why}<|end|><|begin|>assistant<|content|>{answer}<|flush|>",
    "Solar Open, opener in the prompt": "{why}<|end|><|begin|>assistant<|content|>{answer}<|flush|>",
    "Apriel": "Here are my reasoning steps:\n{why}\n[BEGIN FINAL RESPONSE]\n{answer}\n[END FINAL RESPONSE]\n<|end|>",
    "Apriel, on one line": "{why} [BEGIN FINAL RESPONSE] {answer} [END FINAL RESPONSE]",
    "Seed-OSS": "<seed:bos>assistant\n<seed:think>{why}</seed:think>{answer}<seed:eos>",
    "MiniMax-M2": "<think>\n{why}\n</think>\n\n{answer}[e~[",
    "MiniMax-M1": "<think>{why}</think>{answer}<end_of_sentence>",
    "Ling": "<role>ASSISTANT</role><think>\n{why}\n</think>\n\n{answer}<|role_end|>",
    "Megrez": "<|role_start|>assistant<|role_end|><think>{why}</think>{answer}<|turn_end|>",
    "Apertus": "<|assistant_start|><|inner_prefix|>{why}<|inner_suffix|>{answer}<|assistant_end|>",
}


@pytest.mark.parametrize("model", MODELS)
def test_the_marks_of_a_model_go(model: str) -> None:
    shape = MODELS[model]
    answers = (ANSWER, "To sum up, 8.", "The list is [8].", "```python\nprint(8)\n```", "八。")
    check([(ASK, shape.format(why=why, answer=said), said) for why, said in product((WHY, f"{WHY}\n\nSo 8"), answers)])
    quoted = f"It writes `{shape.format(why='...', answer='...')}`.".replace("\n", " ")
    check([("How does it mark its reasoning?", quoted, quoted)])


def test_an_answer_without_the_marks_of_a_final_response_stays() -> None:
    steps = f"Here are my reasoning steps:\n1. {WHY}\n2. {ANSWER}"
    check([(ASK, steps, steps), (ASK, "Write [e~[ at the end of a turn.", "Write [e~[ at the end of a turn.")])
