"""Which columns of a file hold the instruction, the response or the conversation? Guessed by names and first values.

A name is compared by its words: `User_Prompt`, `promptText` and `prompt` are one. A column counts as text if most of
its first values are text: no numbers, addresses or ids. A conversation is recognised by its values, under any name.

`parse_columns` reads the same from the command line (`--columns instruction=frage,response=antwort`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.errors import RecipeError
from pipelines.formats.read import Spelling, column_names, first_rows
from pipelines.formats.values import MISSING, TEXT_PARTS, Fault, Number, are_turns, literal, lookup, nested_names
from pipelines.records import CONDITIONS

Guess = dict[str, str | tuple[str, ...]]
"""`columns` of a source: part of a record -> the column, or the columns that are joined."""

_INSTRUCTIONS = (
    *("instruction", "question", "prompt", "problem", "query", "request", "human", "user", "input", "task"),
)
_RESPONSES = (
    *("response", "answer", "output", "completion", "solution", "reply", "assistant", "target", "chosen"),
    *("generation", "bot", "chatbot", "gpt"),
)
"""Words for the two parts of a pair, the likeliest first."""

_ONLY_TOGETHER = {"q": ("a", "answer"), "source": ("target",), "context": ("response", "reply")}
"""Instruction -> responses. These words mean something else in other company."""

_PROBLEM_RESPONSES = ("solution", *(word for word in _RESPONSES if word != "solution"))
"""A problem's `solution` has the steps; its `answer` is the last line of them."""

_BEFORE = ("system",)
_AFTER = ("input", "context")
"""Parts of an instruction in columns of their own. A system prompt comes first, the `input` of Alpaca and the `context`
of Dolly last."""

_THINKING = ("thinking", "reasoning", "thought", "think")
_CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "chosen")
_NOT_CONVERSATIONS = ("prompt", "completion", "rejected")
_TEXTS = ("text", "content", "document", "body", "passage", "article")

_FILLERS = frozenset(
    (
        *("text", "texts", "body", "str", "string", "content", "value", "column", "full", "message", "turn"),
        *("utterance", "user", "human", "model", "assistant", "gpt", "bot", "ai", "llm", "generated", "en", "english"),
        *(
            "chatgpt",
            "claude",
            "gemini",
            "llama",
            "qwen",
            "deepseek",
            "mistral",
            "trace",
            "original",
            "final",
            "best",
            "gold",
            "golden",
            "correct",
            "reference",
            "expected",
            "ideal",
            "raw",
        ),
    )
)
"""Words that do not change what a column holds: `user_prompt`, `model_answer`, `reference_answer`."""

_EXCHANGE_TURNS = 2
_SAMPLE_ROWS = 200
_FEWEST_WORDS = 3
_LONGEST_NAME = 80


class _Column(NamedTuple):
    """A column: its name, the words of the name, and its first values that are not blank.

    seen: whether any row was seen. A column without values is then blank or numbers (`first_rows`).
    """

    name: str
    words: tuple[str, ...]
    values: list[Any]
    seen: bool = True

    @property
    def is_short(self) -> bool:
        """Whether most of its texts are single words."""
        single = [len(str(value).split()) < _FEWEST_WORDS for value in self.values]
        return 2 * sum(single) > len(single)

    @property
    def word(self) -> str:
        """The name as one word without fillers: `prompt` of `user_prompt`."""
        kept = [word for word in self.words if word not in _FILLERS] or list(self.words[:1])
        return "_".join(kept)


def guess_columns(path: str, spelling: Spelling | None = None) -> Guess:
    """Which columns of a file hold the pair, the conversation or the text.

    Alpaca's `input`, Dolly's `context` and a system prompt belong to the instruction.

    Raises: RecipeError: naming the columns of the file, and the options to write instead. InputError: as `read`.
    """
    names = column_names(path, spelling)
    guess = guess_of(names, first_rows(path, spelling)[:_SAMPLE_ROWS])
    if guess is None:
        raise RecipeError(unknown_roles(path, spelling))
    return guess


def guess_of(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """The same of columns and some first rows; None if it cannot be told. rows: may lack columns of numbers."""
    columns = list(_columns(names, rows))
    if not any(column.values for column in columns):
        columns = [column._replace(seen=False) for column in columns]  # only blank rows: names decide
    condition = _condition(columns)
    conversation = _conversation(names, rows)
    if conversation is not None:
        return conversation | condition
    pair = _pair(columns) or _turn_pair(names, rows)
    if pair is not None:
        return pair | condition
    text = _first(columns, _TEXTS)
    if text is None:
        textual = [column for column in columns if _is_textual(column)]
        text = textual[0] if len(textual) == 1 else None
    return None if text is None else {"text": text.name}


def is_text_only(guess: Mapping[str, Any]) -> bool:
    """Whether a guess is text that is no pair: it can be checked, but not trained on."""
    return "text" in guess


def unknown_roles(path: str, spelling: Spelling | None = None) -> str:
    """The message for a file whose columns cannot be told: its columns, and the option to write."""
    rows = first_rows(path, spelling)[:_SAMPLE_ROWS]
    names = column_names(path, spelling)
    columns = list(_columns(names, rows))
    for column in columns:
        keys = _turn_keys(column.values)
        if keys:
            return (
                f"{path}: column {column.name!r} is a conversation whose turns have the keys {', '.join(keys)}; "
                "turns with `role` and `content`, or with `from` and `value`, can be read: rename the keys"
            )
    found = [column.name for column in columns]
    if any(len(name) > _LONGEST_NAME for name in names):
        return (
            f"{path}: its first line is read as the names of the columns, but looks like a row "
            f"({names[0][:60]!r} ...); put a line with names before it, such as: instruction, response"
        )
    shown = ", ".join(found[:40]) + (f" and {len(found) - 40} more" if len(found) > 40 else "")
    example = written_columns(_likeliest(columns))
    return (
        f"{path}: which columns hold the instruction and the response cannot be told from their names "
        f"(columns: {shown or 'none'}); name them: --columns {example}"
    )


def _likeliest(columns: Sequence[_Column]) -> Guess:
    """An example of `--columns` for a file, with columns that it has."""
    textual = [column for column in columns if _is_textual(column)]
    if len(textual) < 2:
        return {"instruction": "question", "response": "answer"}
    asked = next((column for column in _in_order(textual, _INSTRUCTIONS)), None)
    others = [column for column in textual if column is not asked and "".join(column.words) not in _AFTER]
    answered = next((column for column in _in_order(others, _RESPONSES)), None)
    # Of columns with unknown names, those with whole sentences are likelier than categories.
    rest = sorted((column for column in others if column is not answered), key=lambda column: column.is_short)
    pair = [column for column in (asked, answered) if column is not None] + rest
    if asked is None and answered is not None:
        pair = [*rest[:1], answered]
    if len(pair) < len(("instruction", "response")):
        return {"instruction": "question", "response": "answer"}
    return {"instruction": pair[0].name, "response": pair[1].name}


def role_meant(name: str) -> str | None:
    """The part of a record that a word stands for in other tools: `question` -> `instruction`; None if unknown."""
    word = _Column(name, _words(name), []).word
    roles = {
        "messages": _CONVERSATIONS[:-1],
        "instruction": _INSTRUCTIONS,
        "response": _RESPONSES,
        "thinking": _THINKING,
        "text": _TEXTS,
        "condition": ("tag", "category"),
    }
    return next(
        (role for role, words in roles.items() for known in words if word in (known, "_".join(_words(known)))), None
    )


def parse_columns(text: str) -> Guess:
    """`instruction=question,response=answer` as a mapping. `instruction=instruction+input` names two columns.

    Raises: RecipeError: if it is written otherwise.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and equals and column.strip() for key, equals, column in pairs):
        raise RecipeError(
            f"--columns {text}: write instruction=COLUMN,response=COLUMN, or text=COLUMN, or messages=COLUMN"
        )
    return {
        key.strip(): tuple(map(str.strip, column.split("+"))) if "+" in column else column.strip()
        for key, _, column in pairs
    }


def written_columns(columns: Mapping[str, str | Sequence[str]]) -> str:
    """A mapping as `parse_columns` reads it."""
    return ",".join(f"{part}={named if isinstance(named, str) else '+'.join(named)}" for part, named in columns.items())


# Columns


def _columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Iterator[_Column]:
    nested = dict.fromkeys([*(name for row in rows for name in nested_names(row)), *names])
    parents = {name.partition(".")[0] for name in nested if "." in name and name not in names}
    for name in nested:
        if name in parents:
            continue
        values = [value for row in rows if (value := _value(row, name)) is not None and _is_given(value)]
        # A list, such as SQuAD's `answers` or Self-Instruct's `instances`, is read by its first element.
        first = [value[0] for value in values if isinstance(value, list)]
        if values and len(first) == len(values):
            if all(isinstance(value, str) for value in first):
                name, values = f"{name}.0", first
            elif all(isinstance(value, dict) for value in first) and not _turn_keys(values):
                for key in dict.fromkeys(key for value in first for key in value):
                    below = [one for value in first if (one := _value(value, key)) is not None and _is_given(one)]
                    yield _Column(f"{name}.0.{key}", _words(key), below)
                continue
        yield _Column(name, _words(name), values, bool(rows))


def _value(row: Mapping[str, Any], name: str) -> Any:
    try:
        value = lookup(row, name)
    except Fault:
        return None
    return None if value is MISSING else value


def _is_given(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value not in ([], {})


def _words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case and singular: `qa.Questions` -> `question`, of a nested name the last key."""
    pieces = [piece for piece in name.split(".") if not piece.isdigit()] or [name]
    leaf = pieces[-1]
    if len(pieces) > 1 and leaf.lower() in ("text", "content", "value"):  # SQuAD's `answers.text`
        leaf = f"{pieces[-2]} {leaf}"
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", leaf)
    words = re.findall(r"[^\W_]+", spaced.lower())
    return tuple(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words
    )


def _first(columns: Sequence[_Column], words: Sequence[str], textual: bool = True) -> _Column | None:
    """The column with the first of the words. Names without further words go first."""
    fitting = [column for column in columns if not textual or _is_textual(column)]
    for word in words:
        for column in fitting:
            if column.words == (word,):
                return column
    for word in words:
        for column in fitting:
            if column.word == word and len(word) > 1:
                return column
    return None


_NUMBER = re.compile(r"[+-]?[\d.,\s]+%?|true|false|nan|null|none", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]*://\S+|[0-9a-f]{8}-[0-9a-f-]{20,}|[0-9a-f]{16,}", re.IGNORECASE)


def _is_textual(column: _Column) -> bool:
    """Whether most of a column's first values are text. Where no row was seen, its name decides."""
    return bool(column.values or not column.seen) and 2 * sum(map(_is_text, column.values)) >= len(column.values)


def _is_text(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, dict) and part.get("type") in TEXT_PARTS for part in value)
    if not isinstance(value, str) or isinstance(value, Number):
        return False
    text = value.strip()
    return not _NUMBER.fullmatch(text) and not _ADDRESS.fullmatch(text)


def _is_answer(column: _Column) -> bool:
    """Whether a column may hold answers: text or numbers, no lists or addresses."""
    scalars = [not isinstance(value, list | dict) and not _ADDRESS.fullmatch(str(value)) for value in column.values]
    return 2 * sum(scalars) >= len(scalars) or _is_textual(column)


# Pairs


def _pair(columns: Sequence[_Column]) -> Guess | None:
    for instruction in (*_in_order(columns, _INSTRUCTIONS), *_in_order(columns, tuple(_ONLY_TOGETHER))):
        word = instruction.word
        if not _is_textual(instruction):
            continue
        others = [column for column in columns if column.name != instruction.name and _same_parent(column, instruction)]
        words: Sequence[str] = _PROBLEM_RESPONSES if word == "problem" else _RESPONSES
        words = _ONLY_TOGETHER.get(word, words)
        response = _first(others, words) or _first(list(filter(_is_answer, others)), words, textual=False)
        if response is not None:
            return _joined(others, instruction, response)
    return None


def _in_order(columns: Sequence[_Column], words: Sequence[str]) -> Iterator[_Column]:
    """The columns that a word names, the likeliest first; names without further words go first."""
    yield from (column for word in words for column in columns if column.words == (word,))
    yield from (
        column
        for word in words
        for column in columns
        if column.word == word and len(word) > 1 and len(column.words) > 1
    )


def _same_parent(one: _Column, other: _Column) -> bool:
    return one.name.split(".")[0] == other.name.split(".")[0] or "." not in one.name or "." not in other.name


def _joined(others: Sequence[_Column], instruction: _Column, response: _Column) -> Guess:
    rest = [column for column in others if column.name != response.name]
    texts = [column for column in rest if all(isinstance(value, str) for value in column.values)]
    before = [column for word in _BEFORE for column in texts if column.words[:1] == (word,) and _is_textual(column)]
    after = [column for word in _AFTER for column in texts if column.words == (word,)]
    names = [column.name for column in (*before[:1], instruction, *after[:1])]
    asked = tuple(dict.fromkeys(names))
    guess: Guess = {"instruction": asked if len(asked) > 1 else asked[0], "response": response.name}
    thinking = next((column for column in rest if _is_thinking(column)), None)
    return guess if thinking is None else guess | {"thinking": thinking.name}


def _is_thinking(column: _Column) -> bool:
    return column.word in _THINKING and _is_textual(column)


def _condition(columns: Sequence[_Column]) -> Guess:
    """The column with the tags of HRM-Text, if a file has one."""
    for column in columns:
        if column.words == ("condition",) and column.values:
            tags = {tag for value in column.values for tag in str(value).split(",")}
            if tags <= set(CONDITIONS):
                return {"condition": column.name}
    return {}


# Conversations


def _conversation(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """The column of conversations, and the field of a turn that holds reasoning."""
    found: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys([*names, *(name for row in rows for name in nested_names(row))]):
        if (word := _words(name)[-1:]) and word[0] in _NOT_CONVERSATIONS:
            continue
        turns = [turn for row in rows for turn in _turns(_value(row, name))]
        if are_turns(turns):
            found[name] = tuple(sorted({key for turn in turns for key in turn}))
    if not found:
        return None
    singular = [word.removesuffix("s") for word in _CONVERSATIONS]

    def rank(name: str) -> int:
        word = "".join(_words(name)[-1:])
        return singular.index(word) if word in singular else len(singular)

    name = min(found, key=rank)
    thinking = [key for key in found[name] if _words(key) and _Column(key, _words(key), []).word in _THINKING]
    return {"messages": name, "thinking": thinking[0]} if thinking else {"messages": name}


def _turns(value: Any) -> list[Mapping[str, Any]]:
    """The turns of a value that is a conversation: a list of objects, an object of lists, or either as JSON text."""
    if isinstance(value, str) and not isinstance(value, Number) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = literal(value)
        except Fault:
            return []
    if isinstance(value, dict) and value and all(isinstance(items, list) for items in value.values()):
        value = [dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)]
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return []
    return value


_SPEAKERS = frozenset(
    ("speaker", "author", "sender", "role", "from", "user", "human", "person", "name", "party", "who")
)
_SAID = frozenset(("text", "message", "utterance", "content", "value", "assistant", "bot", "gpt", "body", "said"))


def _turn_keys(values: Sequence[Any]) -> tuple[str, ...]:
    """The keys of turns, in a column that is a conversation, but not one that can be read."""
    turns = [turn for value in values if not isinstance(value, dict) for turn in _turns(value)]
    keys = tuple(dict.fromkeys(key for turn in turns for key in turn))
    lower = {key.lower() for key in keys}
    return keys if lower & _SPEAKERS and lower & _SAID else ()


def _turn_pair(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """A prompt and a completion that are both lists of turns, of which the prompt has one, or a system turn before."""
    for asked, answered in (("prompt", "completion"), ("prompt", "chosen"), ("prompt", "response")):
        if asked not in names or answered not in names:
            continue
        prompts = [_turns(_value(row, asked)) for row in rows]
        answers = [_turns(_value(row, answered)) for row in rows]
        longest = max(map(len, prompts), default=0)
        if 1 <= longest <= _EXCHANGE_TURNS and all(answer and "content" in answer[0] for answer in answers):
            instruction = tuple(f"{asked}.{index}.content" for index in range(longest))
            return {"instruction": instruction if longest > 1 else instruction[0], "response": f"{answered}.0.content"}
    return None
