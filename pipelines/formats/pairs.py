"""Turn the rows of a file into RAW rows: pairs of instruction and response, for sources and for files without a source.

The functions here work on columns. `Any` is a string column: a ChunkedArray or an Array with one value per row.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.faults import FAULT
from pipelines.formats.read import Spelling, read, text_columns_of
from pipelines.formats.span import WHOLE, Span
from pipelines.formats.values import thinking_block
from pipelines.records import EXTRA, RAW, RULE, TASK

MESSAGES = pa.list_(pa.struct([pa.field(name, pa.string()) for name in ("role", "content", "from", "value")]))
"""A conversation: a list of turns with `role` and `content`, or with `from` and `value` (ShareGPT)."""

_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot"), "assistant"),
    **dict.fromkeys(
        ("tool", "function", "tool_call", "function_call", "tool_response", "observation", "ipython"), "tool"
    ),
}
"""The names of roles in published data sets -> the four that matter here."""


# RAW rows


def raw(rows: pa.Table, instruction: Any, response: Any, condition: Any, variant: str = "") -> pa.Table:
    """RAW rows from the rows of a file. A row with a fault keeps it, with the text that could be read as response.

    rows: a table as `read` yields it. instruction, response: columns with one value per row. condition: such a column,
    or the tags of all rows.
    """
    tags = _repeat(condition, rows.num_rows) if isinstance(condition, str) else condition
    faults = rows["fault"]
    responses = (
        response if faults.null_count == rows.num_rows else pc.if_else(pc.is_valid(faults), rows["broken"], response)
    )
    columns = [rows["row"], _repeat(variant, rows.num_rows), tags, instruction, responses, faults]
    return pa.table(columns, schema=RAW)


def exclude(table: pa.Table, *rules: tuple[str, Any]) -> pa.Table:
    """RAW rows in which those that a rule of the source leaves out are marked, to be dropped under the rule's name.

    rules: (name, boolean column). The first rule that is true counts; null is false. A row with a fault keeps it.
    """
    fault = table["fault"]
    for name, mask in rules:
        fault = pc.if_else(pc.and_(pc.is_null(fault), pc.fill_null(mask, False)), f"{RULE}{name}", fault)
    return table.set_column(table.schema.get_field_index("fault"), RAW.field("fault"), fault)


def with_task(table: pa.Table, task: Any) -> pa.Table:
    """RAW rows with the column TASK: a string column, or the name of the task of all rows."""
    return table.append_column(TASK, _repeat(task, table.num_rows) if isinstance(task, str) else task)


def interleave(tables: Sequence[pa.Table]) -> pa.Table:
    """Several RAW tables of the same rows as one, in row order. A row with a fault is taken from the first only."""
    first, *others = tables
    readable = [pc.starts_with(pc.fill_null(table["fault"], RULE), RULE) for table in others]
    merged = pa.concat_tables([first, *(table.filter(mask) for table, mask in zip(others, readable, strict=True))])
    return merged.take(pa.array(np.argsort(merged["row"].to_numpy(), kind="stable")))


def _repeat(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


# Columns of text


def file_name(task: Any) -> Any:
    """Task names as HRM-Text names its files: every character but letters, digits and `_-. ` becomes `_`."""
    return pc.replace_substring_regex(task, r"[^A-Za-z0-9_\-. ]", "_")


def is_proof(question: Any) -> Any:
    """Whether a question asks for a proof, by HRM-Text's rule: it contains `prove` or `show that`."""
    lower = pc.utf8_lower(question)
    return pc.or_(pc.match_substring(lower, "prove"), pc.match_substring(lower, "show that"))


@functools.cache
def _letters() -> pa.Array:
    # In a function, not a constant: the first call of pa.array imports pandas, 0.3 s for every command.
    return pa.array(list(string.ascii_uppercase), pa.string())


def option_letter(index: pa.ChunkedArray) -> pa.ChunkedArray:
    """Indices from 0 (as text) as letters from A; null if the text is not a number from 0 to 25."""
    numbers = pa.array([str(number) for number in range(len(_letters()))], pa.string())
    return pa.chunked_array([_letters().take(pc.index_in(index.combine_chunks(), numbers))])


def options(choices: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of choices (list<string>) as lines `A: first`, `B: second` ..., trimmed; null for a null list."""
    lists = choices.combine_chunks()
    parents = np.asarray(pc.list_parent_indices(lists).to_numpy(), np.int64)
    texts = pc.fill_null(pc.utf8_trim_whitespace(pc.list_flatten(lists)), "")
    starts = np.searchsorted(parents, parents)
    letters = _letters().take(pa.array(np.minimum(np.arange(len(parents)) - starts, len(_letters()) - 1)))
    lines = pc.binary_join_element_wise(letters, texts, ": ")
    ends = np.searchsorted(parents, np.arange(len(lists) + 1))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), lines), "\n")
    return pa.chunked_array([pc.if_else(lists.is_valid(), joined, None)])


def join_input(instruction: Any, given: Any) -> Any:
    """Alpaca's columns `instruction` and `input` as one: an input that is not empty follows after an empty line."""
    empty = pc.equal(pc.fill_null(given, ""), "")
    return pc.if_else(empty, instruction, pc.binary_join_element_wise(instruction, given, "\n\n"))


def join_texts(*columns: Any) -> Any:
    """Several columns as one: texts that are not blank, with empty lines between them. Null where all are null."""

    def blank(column: Any) -> Any:
        return pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "")

    def join(before: Any, after: Any) -> Any:
        both = pc.binary_join_element_wise(before, after, "\n\n")
        return pc.if_else(blank(after), pc.coalesce(before, after), pc.if_else(blank(before), after, both))

    return functools.reduce(join, columns)


def prepend_thinking(thinking: Any, response: Any) -> Any:
    """Responses with the reasoning of a column of its own before them, in the tags of the family `column`.

    A response whose reasoning is null or blank is left as it is. A null response stays null.
    """
    inner = pc.fill_null(thinking, "")
    blank = pc.equal(pc.utf8_trim_whitespace(inner), "")
    return pc.if_else(blank, response, pc.binary_join_element_wise(thinking_block(inner), response, "\n\n"))


# Files without a source

JOINED = ("instruction", "response", "text")
"""What may be read from several columns, which are joined."""

Columns = Mapping[str, str | Sequence[str]]
"""What is read -> the file's column, or several that are joined. A name may lead into a column: `qa.q`, `choices.0`."""


def columns_read(columns: Columns, role: str) -> list[str]:
    """The columns that one part of a record is read from; none if there is no such key."""
    names = columns.get(role, ())
    return [names] if isinstance(names, str) else list(names)


def further_columns(columns: Columns) -> list[str]:
    """The columns that a file may lack: those after the first of a part, and `thinking`.

    Rows without them are common, and so are files in which no row has them.
    """
    further = [name for role in JOINED for name in columns_read(columns, role)[1:]]
    return further + ([] if "messages" in columns else columns_read(columns, "thinking"))


def unread_text(
    path: str, columns: Columns, spelling: Spelling | None = None, extra: Mapping[str, str] = {}
) -> list[str]:
    """The columns of a file that hold text in its first rows and are not read.

    Raises: InputError: as `read`.
    """
    names = [*(name for role in columns for name in columns_read(columns, role)), *extra.values()]
    further = further_columns(columns)
    required = [
        pa.field(name, MESSAGES if role == "messages" else pa.string())
        for role in ("instruction", "response", "messages", "text", "condition")
        for name in columns_read(columns, role)
        if name not in further
    ]
    return [
        one
        for one in text_columns_of(path, pa.schema(required), spelling)
        if not any(one == name or one.startswith(f"{name}.") or name.startswith(f"{one}.") for name in names)
    ]


def read_pairs(
    path: str,
    columns: Columns,
    condition: str | None,
    spelling: Spelling | None = None,
    extra: Mapping[str, str] = {},
    span: Span = WHOLE,
) -> Iterator[pa.Table]:
    """RAW rows of a file without a source, or of a span of it.

    columns: in one of three ways, each with `condition` if there is such a column:

    - `instruction` and `response`;
    - `messages`: a conversation, of which the first exchange is used (see `first_exchange`);
    - `text`: text that is no pair, read as an instruction without response. It can be checked but not trained on.

    Several columns of one part are joined (`join_texts`): `instruction: [instruction, input]`. `thinking` -> the
    column, or the field of a turn, that holds a model's reasoning apart from its answer (`reasoning_content`). It is
    put before the response as a block that the stages `thinking` and `strip_thinking` find, so that it is counted, kept
    or dropped like other thinking. condition: the tags of every row, if no column holds them. extra: name -> further
    column, which the RAW rows have as `EXTRA + name`, null where a row has none.

    Raises: InputError: as `read`. The `further_columns` may be missing.
    """
    tags = columns_read(columns, "condition") if condition is None else []
    thinking = next(iter(columns_read(columns, "thinking")), None)
    if "messages" in columns:
        (name,) = columns_read(columns, "messages")
        turns = MESSAGES if thinking is None else _with_field(thinking)
        fields = [pa.field(name, turns), *_text_fields([*tags, *extra.values()])]
        for rows in read(path, pa.schema(fields), spelling=spelling, span=span):
            instruction, response, faults = first_exchange(rows[name], thinking)
            rows = with_exchange_faults(rows, faults)
            yield _with_extra(raw(rows, instruction, response, _tags(rows, tags, condition)), rows, extra)
        return
    parts = [columns_read(columns, role) for role in (("text",) if "text" in columns else ("instruction", "response"))]
    names = [*(name for part in parts for name in part), *([thinking] if thinking else []), *tags, *extra.values()]
    for rows in read(path, pa.schema(_text_fields(names)), further_columns(columns), spelling=spelling, span=span):
        texts = [join_texts(*(rows[name] for name in part)) for part in parts]
        response = texts[1] if len(texts) > 1 else _repeat("", rows.num_rows)
        if thinking is not None:
            response = prepend_thinking(rows[thinking], response)
        yield _with_extra(raw(rows, texts[0], response, _tags(rows, tags, condition)), rows, extra)


def _with_extra(table: pa.Table, rows: pa.Table, extra: Mapping[str, str]) -> pa.Table:
    for name, column in extra.items():
        table = table.append_column(pa.field(EXTRA + name, pa.string()), rows[column])
    return table


def _text_fields(names: Iterable[str]) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in dict.fromkeys(names)]


def with_exchange_faults(rows: pa.Table, faults: pa.Array) -> pa.Table:
    """The rows of a file with the faults of `first_exchange`; a row that could not be read keeps its own fault."""
    return rows.set_column(rows.schema.get_field_index("fault"), FAULT, pc.coalesce(rows["fault"], faults))


def _with_field(name: str) -> pa.DataType:
    """MESSAGES whose turns have one field more."""
    turn = MESSAGES.value_type
    return pa.list_(pa.struct([*turn, pa.field(name, pa.string())])) if turn.get_field_index(name) < 0 else MESSAGES


def _tags(rows: pa.Table, column: Sequence[str], condition: str | None) -> str | pa.ChunkedArray:
    if condition is not None:
        return condition
    assert column, "the recipe's check requires a condition for each source"
    return rows[column[0]]


def first_exchange(messages: pa.ChunkedArray, thinking: str | None = None) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The first exchange of each conversation (MESSAGES): columns of instructions, responses and faults.

    The instruction is the system and user turns before the first answer, joined by an empty line. The response is the
    first answer. Later rounds are left out, as in HRM-Text: their questions depend on what was said before. thinking:
    the field of a turn that holds reasoning, which is put before the answer (`prepend_thinking`).

    Faults: `no_messages`; `unknown_role` or `tool_turns` if another role has a turn before the first answer, or a tool
    right after it (then it was not an answer but a call); `no_user_turn`; `no_assistant_turn`.
    """
    conversations = messages.combine_chunks()
    turns = pc.list_flatten(conversations)
    role, content, sender, value = (pc.struct_field(turns, index) for index in range(4))
    text = pc.coalesce(content, value)
    if thinking is not None:
        text = pc.if_else(pc.is_null(text), text, prepend_thinking(pc.struct_field(turns, thinking), text))
    frame = pl.DataFrame(
        {
            "row": pl.Series(pc.list_parent_indices(conversations), dtype=pl.Int64),
            "name": pl.Series(pc.coalesce(role, sender), dtype=pl.String),
            "text": pl.Series(text, dtype=pl.String),
        }
    )
    roles = pl.col("name").str.to_lowercase().replace_strict(_ROLES, default="other", return_dtype=pl.String)
    frame = frame.with_columns(role=roles.fill_null("other"))
    frame = frame.with_columns(
        answers=(pl.col("role") == "assistant").cast(pl.Int32).cum_sum().over("row"),
        next_role=pl.col("role").shift(-1).over("row"),
    )
    before = pl.col("answers") == 0
    first = (pl.col("answers") == 1) & (pl.col("role") == "assistant")
    asked = before & pl.col("role").is_in(["system", "user"]) & (pl.col("text") != "")
    exchanges = frame.group_by("row", maintain_order=True).agg(
        instruction=pl.col("text").filter(asked).str.join("\n\n"),
        response=pl.col("text").filter(first).first(),
        users=(before & (pl.col("role") == "user")).any(),
        answered=first.any(),
        tools=((before & (pl.col("role") == "tool")) | (first & (pl.col("next_role") == "tool"))).any(),
        others=(before & (pl.col("role") == "other")).any(),
    )
    # Conversations without turns are not in the groups.
    rows = pl.DataFrame({"row": pl.Series(np.arange(len(conversations)), dtype=pl.Int64)})
    rows = rows.join(exchanges, on="row", how="left", maintain_order="left")
    fault = (
        pl.when(pl.col("users").is_null()).then(pl.lit("no_messages"))
        .when("others").then(pl.lit("unknown_role"))
        .when("tools").then(pl.lit("tool_turns"))
        .when(~pl.col("users")).then(pl.lit("no_user_turn"))
        .when(~pl.col("answered")).then(pl.lit("no_assistant_turn"))
    )  # fmt: skip
    rows = rows.with_columns(fault=fault)
    instruction, response, faults = (
        rows[name].to_arrow().cast(pa.string()) for name in ("instruction", "response", "fault")
    )
    return instruction, response, faults
