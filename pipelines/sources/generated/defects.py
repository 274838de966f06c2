"""The defects of real corpora, one function per kind: it takes a row without a defect and returns one with it.

Tests compare the kinds, which are not in the rows, with what the pipeline dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from pipelines.sources.generated import foreign
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.items import leaked
from pipelines.sources.generated.problem import Row
from pipelines.sources.generated.prose import write

MUSINGS = (
    "Okay, so I need to work out what is being asked here.",
    "Let me read the question again, slowly this time.",
    "Hmm, the first idea would be to start from {number}, but that seems too large.",
    "Wait, that is not right, because I forgot the {small} that were mentioned.",
    "Let me try it with {number} instead and see what happens.",
    "Perhaps {name} would do this differently, starting from the end.",
    "So that leaves {small} cases, and I should check each of them.",
    "Alternatively, one could count backwards from {number}.",
    "No, I already looked at that one, so let me move on.",
    "That agrees with what I had before, which is a good sign.",
    "I am fairly sure now, but let me verify it once more.",
    "The user probably wants a short reply without the detours.",
)
REFUSALS = (
    "I'm sorry, but as an AI language model I cannot help with that request.",
    "I'm sorry, but I can't assist with that.",
    "As an AI language model, I don't have the ability to answer this question.",
    "I apologize, but I am unable to provide an answer to this question.",
    "Unfortunately, I cannot fulfill this request, as it goes against my guidelines.",
    "I'm sorry, as an AI developed to be helpful, I am not able to comply with this request.",
    "I cannot answer that question. As an AI, I do not have personal opinions or access to this information.",
)
REFUSAL_ENDS = (
    "",
    " Is there anything else I can help you with?",
    " Please consult a qualified professional instead.",
    " If you have another question, I will be glad to help.",
)
PLACEHOLDERS = (
    "TODO",
    "TBD",
    "[Your answer here]",
    "<noinput>",
    "undefined",
    "nan",
    "{{response}}",
    "No output provided.",
    "...",
    "---",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
)
"""Left by forms and programs. "N/A" and "None" are not here: they may be answers."""

NEEDS_MORE = frozenset(
    ("the", "an", "and", "or", "but", "because", "than", "their", "our", "my", "your", "whose", "although")
)
"""Words that do not end a sentence."""

WRAPPERS = (
    "Please answer the following question.\n\nQuestion: {q}\nAnswer:",
    "Q: {q}\nA:",
    "You are a helpful tutor. Solve this task and reply with the result only.\n\n{q}",
    "### Instruction\n{q}\n\n### Response",
    "{q}\n\nThink carefully and give only the final answer.",
)
AROUND = (
    "Our teacher handed out a sheet with riddles {place} on {weekday}.",
    "I was helping {relative} with homework {when}, and we got stuck.",
    "{name} posted {number} exercises in the forum, and this one is being discussed for {small} days.",
    "Can somebody tell me whether the solution in the book of {name} is right?",
    "The others took {minutes} minutes for all {small} of them, which made {name} {feeling}.",
    "The rest of the sheet is about {things} and much easier.",
)


def _answer(row: Row) -> str:
    assert row.response is not None, "a row without a defect has a response"
    return row.response


def _musing(dice: Dice, least: int = 3) -> str:
    return write(dice, dice.sample(MUSINGS, dice.between(least, least + 4)), {})


def think(row: Row, dice: Dice) -> Row:
    """A closed block of thinking before the answer."""
    tag = dice.pick(("think", "think", "thinking"))
    return row._replace(response=f"<{tag}>\n{_musing(dice)}\n</{tag}>\n\n{row.response}")


def think_nested(row: Row, dice: Dice) -> Row:
    """A block of thinking within another."""
    return row._replace(
        response=f"<think>\n{_musing(dice)}\n<think>\n{_musing(dice)}\n</think>\n{_musing(dice)}\n</think>\n\n{row.response}"
    )


def think_orphan(row: Row, dice: Dice) -> Row:
    """A closing tag whose opening tag was in the chat template."""
    return row._replace(response=f"{_musing(dice)}\n</think>\n\n{row.response}")


def think_marked(row: Row, dice: Dice) -> Row:
    """Thinking and solution between markers."""
    thought = f"<|begin_of_thought|>\n\n{_musing(dice)}\n\n<|end_of_thought|>"
    return row._replace(response=f"{thought}\n\n<|begin_of_solution|>\n\n{row.response}\n\n<|end_of_solution|>")


def think_output(row: Row, dice: Dice) -> Row:
    """`Thought` and `Output` blocks."""
    return row._replace(response=f"<Thought>\n{_musing(dice)}\n</Thought>\n<Output>\n{row.response}\n</Output>")


def think_unclosed(row: Row, dice: Dice) -> Row:
    """Thinking that is cut off, without an answer."""
    return row._replace(response=f"<{dice.pick(('think', 'thinking'))}>\n{_musing(dice, 5)} {dice.pick(MUSINGS)[:20]}")


def refusal(row: Row, dice: Dice) -> Row:
    """A refusal in place of the answer."""
    return row._replace(response=dice.pick(REFUSALS) + dice.pick(REFUSAL_ENDS))


def truncated(row: Row, dice: Dice) -> Row:
    """The answer stops where something must follow: after a comma, an equals sign, "and", "the".

    A cut after a word that could be the last is not visible in the text.
    """
    words = _answer(row).split(" ")
    open_ends = [n for n, word in enumerate(words) if word.lower() in NEEDS_MORE or word[-1:] in (",", "=", ":")]
    open_ends = [n for n in open_ends if 4 <= n < len(words) - 1]
    kept = words[: dice.pick(open_ends) + 1] if open_ends else [*words[: max(5, len(words) // 2)], "because"]
    return row._replace(response=" ".join(kept))


def loop(row: Row, dice: Dice) -> Row:
    """The answer repeats one sentence many times."""
    sentences = _answer(row).split(". ")
    repeated = sentences[min(1, len(sentences) - 1)].rstrip(".") + ". "
    return row._replace(response=". ".join(sentences[:2]).rstrip(".") + ". " + repeated * dice.between(12, 30))


def other_language(row: Row, dice: Dice) -> Row:
    """Instruction and answer in another language."""
    return foreign.row(dice)


def control_characters(row: Row, dice: Dice) -> Row:
    """Control characters and replacement characters from a broken decoder, every few words."""
    marks = ("\x00", "\x08", "\x1b", "\ufffd", "\x0b", "\x7f")
    return row._replace(
        response=" ".join(
            word + dice.pick(marks) if n % 4 == 0 else word for n, word in enumerate(_answer(row).split(" "))
        )
    )


def empty(row: Row, dice: Dice) -> Row:
    """An empty answer, or only white space."""
    return row._replace(response=dice.pick(("", " ", "\n", "\n\n \t")))


def placeholder(row: Row, dice: Dice) -> Row:
    """A filler where the answer should be."""
    return row._replace(response=dice.pick(PLACEHOLDERS))


def echo(row: Row, dice: Dice) -> Row:
    """The answer repeats the question."""
    return row._replace(response=row.instruction)


def only_urls(row: Row, dice: Dice) -> Row:
    """Only links."""
    hosts, folders = ("www.example.com", "example.org", "old.example.net"), ("a", "page", "thread")
    links = [f"https://{dice.pick(hosts)}/{dice.pick(folders)}/{dice.below(10**6)}" for _ in range(dice.between(1, 4))]
    return row._replace(response="\n".join(links))


def null_response(row: Row, dice: Dice) -> Row:
    """The answer is null."""
    return row._replace(response=None)


def null_instruction(row: Row, dice: Dice) -> Row:
    """The instruction is null."""
    return row._replace(instruction=None)


def unknown_condition(row: Row, dice: Dice) -> Row:
    """A condition tag that HRM-Text does not have."""
    return row._replace(condition=dice.pick(("dirct", "chain_of_thought", "", "direct;cot", "unknown")))


def leak_verbatim(row: Row, dice: Dice) -> Row:
    """A test item, unchanged."""
    item = leaked(dice)
    return Row("direct", item.question, item.answer)


def leak_wrapped(row: Row, dice: Dice) -> Row:
    """A test item in a prompt, with other case or spaces."""
    item = leaked(dice)
    question = (
        item.question if dice.chance(50) else dice.pick((item.question.upper(), item.question.replace(" ", "  ")))
    )
    return Row("direct", dice.pick(WRAPPERS).replace("{q}", question), item.answer)


def leak_embedded(row: Row, dice: Dice) -> Row:
    """A test item inside other text."""
    item = leaked(dice)
    before, after = dice.sample(AROUND, 2)
    return Row(
        "noisy,direct",
        f"{write(dice, [before], {})} {item.question} {write(dice, [after], {})}",
        f"I would say {item.answer}.",
    )


ADD_DEFECT: dict[str, Callable[[Row, Dice], Row]] = {
    "think": think,
    "think_nested": think_nested,
    "think_orphan": think_orphan,
    "think_marked": think_marked,
    "think_output": think_output,
    "think_unclosed": think_unclosed,
    "refusal": refusal,
    "truncated": truncated,
    "loop": loop,
    "other_language": other_language,
    "control_characters": control_characters,
    "empty": empty,
    "placeholder": placeholder,
    "echo": echo,
    "only_urls": only_urls,
    "null_response": null_response,
    "null_instruction": null_instruction,
    "unknown_condition": unknown_condition,
    "leak_verbatim": leak_verbatim,
    "leak_wrapped": leak_wrapped,
    "leak_embedded": leak_embedded,
}
"""Kind of defect -> the function that adds it to a row. Duplicates need another row: they are in `rows.py`."""

NEEDS_PROSE = frozenset({"truncated", "loop", "control_characters", "echo", "think_unclosed"})
"""Kinds that need a question and an answer of at least a sentence."""
