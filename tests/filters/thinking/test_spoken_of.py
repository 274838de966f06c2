"""A closer that a sentence or a list speaks of is no end of reasoning; one that ends a line or a sentence is."""

from __future__ import annotations

from itertools import product

import pytest

from tests.filters.thinking.test_kinds import check

CLOSERS = ["</think>", "</thinking>", "</Thought>", "</reasoning>", "◁/think▷", "[/THINK]", "<|END_THINKING|>"]
ASKED = ["How do I serve R1 with vLLM?", "Why is my output odd?", "Answer the forum question: my model loops."]
LEADS = [
    "Your client shows",
    "vLLM drops what stands before",
    "Since version 0.9 the server leaks",
    "With greedy decoding, Qwen3 may never reach",
    "My model printed `{}` and then",
    "The template adds the opener to the prompt, so you only see",
    "You get one answer per choice.\n\nIf you find",
    "- Fixed: the stream lost",
    "Le client affiche",
    "Сервер показывает",
]
TAILS = [
    "because the parser is off. Turn it on.",
    "into `reasoning_content`.",
    "in the completion, and nothing before it.",
    "twice, so a split gives three parts.",
    "never, which is why the stream does not end.",
    "(no opener before it) at the end.",
    "— see the log — without an opener.",
    "and [/THINK] when they stand alone.",
    "parce que le serveur ne filtre pas.",
    "в ответе, потому что парсер выключен.",
]


@pytest.mark.parametrize("closer", CLOSERS)
def test_a_sentence_that_leads_to_a_closer_and_carries_on_stays_whole(closer: str) -> None:
    said = [f"{lead} {closer} {tail}" for lead, tail in product(LEADS, TAILS)]
    said += [
        f"{lead} {closer}{tail}" for lead, tail in product(LEADS, (", so it stops.", ". Add it back.", "; see above."))
    ]
    said += [f"Use these stop tokens: <|im_end|>, <|endoftext|>, {closer}.", f"{LEADS[0]} {closer} {TAILS[0]}\n" * 3]
    check([(asked, text.strip(), text.strip()) for asked, text in product(ASKED, said)])


THOUGHTS = [
    "Okay, 3 and 5 make 8.",
    "Okay, 3 and 5 make 8",
    "so we come to",
    "that is what I use,",
    "I write the",
    "Is it (8)? Yes!",
    "It is $8$",
]
ANSWERS = [
    "To sum up, it is 8.",
    "The sum is 8",
    "8",
    "the sum of both is 8",
    "so it is 8.",
    "yes",
    "**8**",
    "$8$",
    "x = 8",
]


@pytest.mark.parametrize("closer", CLOSERS)
def test_a_closer_before_what_begins_an_answer_ends_reasoning(closer: str) -> None:
    lines = [f"{why}\n{closer}{gap}{answer}" for why, gap, answer in product(THOUGHTS, ("\n\n", "\n", " "), ANSWERS)]
    ends = [f"{why}{gap}{closer}\n{answer}" for why, gap, answer in product(THOUGHTS, (" ", ""), ANSWERS)]
    inside = [f"{why}{gap}{closer} {answer}" for why, gap, answer in product(THOUGHTS, (" ", ""), ANSWERS)]
    answers = [answer for _, _, answer in product(THOUGHTS, range(3), ANSWERS)]
    twice = [answer for _, _, answer in product(THOUGHTS, range(2), ANSWERS)]
    # After the end of a sentence no word carries it on.
    after = [(f"{THOUGHTS[0]} {closer} {tail}", tail) for tail in TAILS]
    pairs = [
        *zip(lines, answers, strict=True),
        *zip(ends, twice, strict=True),
        *zip(inside, twice, strict=True),
        *after,
    ]
    check([("Add 3 and 5.", said, left) for said, left in pairs])


@pytest.mark.parametrize("closer", CLOSERS)
def test_reasoning_and_an_answer_that_speak_of_a_closer_are_told_apart(closer: str) -> None:
    spoken = f"{LEADS[0]} {closer} {TAILS[0]}"
    check([(ASKED[1], f"Hmm. {spoken}\n{closer}\n\n{spoken}", spoken)])


@pytest.mark.parametrize(("opener", "closer"), [("<think>", "</think>"), ("◁think▷", "◁/think▷")])
def test_lists_and_tables_of_marks_stay(opener: str, closer: str) -> None:
    lists = [
        f"stop:\n  - {closer}\n  - <|im_end|>",
        f"stop:\n  - <|im_end|>\n  - {closer}\n  - <|endoftext|>",
        f"Use these:\n\n* <|im_end|>\n* <|endoftext|>\n* {closer}",
        f"1. {closer}\n2. <|im_end|>\n3. </s>",
        f"token,id\n<|im_start|>,1\n{opener},2\n{closer},3",
        f"{opener}\t2\n{closer}\t3\n<tool_call>\t4",
        f"{opener}: 2\n{closer}: 3",
    ]
    check([("List the added tokens.", said, said) for said in lists])
    check([("Add.", f"- three\n- five\n- {closer}\nThe sum is 8.", "The sum is 8.")])
