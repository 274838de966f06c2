"""Values of any type as the text, or the lists and structs of text, that a column is read as.

A number is written as a person would: whole numbers in full, decimals as short as they determine the value. A list of
content parts (`[{"type": "text", "text": ...}]`) is the text of its parts. A list or struct may also be stored as JSON
text. Missing numbers (NaN) are null.
"""

from __future__ import annotations

import ast
import decimal
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from pipelines.formats.faults import broken_text, is_valid

TEXT_PARTS = ("text", "input_text", "output_text")
"""The types of content parts that are text: of chat completions, and of OpenAI's responses."""

THINKING_PARTS = ("thinking", "reasoning")
"""The types of content parts that are a model's reasoning."""

TURN_NAMES = (("role", "from"), ("content", "value"))
"""The fields of a turn of a conversation, in the spellings of OpenAI and of ShareGPT."""

PARTS = pa.list_(pa.struct([pa.field(name, pa.string()) for name in ("type", "text", *THINKING_PARTS)]))
"""A list of content parts, as much of it as is read."""

NON_TEXT_PART, WRONG_TYPE, BROKEN_JSON = "non_text_part", "wrong_type", "broken_json"
INVALID_UTF8, REPEATED_KEY = "invalid_utf8", "repeated_key"

_FULL_EXPONENTS = range(-7, 21)
"""Powers of ten that are written in full. Other numbers keep their exponent: `1e+21`, `1e-8`."""


class WrongType(Exception):
    """A column has a type that cannot be read as requested; the argument is the type."""


class Fault(Exception):
    """A value cannot be read as requested; the argument is the fault of its row."""


def plain_number(text: str) -> str:
    """A number without its exponent, if a person would write it so: `1e+15` -> `1000000000000000`."""
    try:
        value = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return text
    return format(value, "f") if not value or value.adjusted() in _FULL_EXPONENTS else text


# Columns


def convert(array: pa.Array, to: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
    """An Arrow array as `to` (string, or lists and structs of strings), and the fault of each row; None without faults.

    Text that is not UTF-8 is replaced by what can be decoded, and its row has the fault `invalid_utf8`.

    Raises: WrongType: if no value of the array's type can be read so.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), to), None
    if pa.types.is_string(to):
        return _to_parts_text(array) if is_list(array.type) else _to_text(array)
    if pa.types.is_list(to):
        if is_text(array.type):
            text, faults = _to_text(array)
            values, more = from_json_text(text, to)
            return values, _first(faults, more)
        if pa.types.is_struct(array.type):
            array = _transposed(array)
        if not is_list(array.type):
            raise WrongType(array.type)
        items, faults = convert(array.flatten(), to.value_type)
        return _list_like(array, items, to), _of_rows(array, faults)
    if not pa.types.is_struct(to):
        return array.cast(to), None
    if not pa.types.is_struct(array.type):
        raise WrongType(array.type)
    children, faults = [], None
    for field in to:
        index = array.type.get_field_index(field.name)
        child = pa.nulls(len(array), field.type)
        if index >= 0:
            child, more = convert(pc.struct_field(array, index), field.type)
            faults = _first(faults, more)
        children.append(child)
    return pa.StructArray.from_arrays(children, fields=list(to), mask=array.is_null()), faults


def _to_text(array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
        raise WrongType(kind)
    if is_text(kind):
        return _decoded(array)
    if pa.types.is_float16(kind):
        values = [
            None if value is None else np.format_float_positional(np.float16(value), trim="-")
            for value in array.to_pylist()
        ]
        return pa.array([None if value == "nan" else value for value in values], pa.string()), None
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    text = array.cast(pa.string())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        text = _without_exponents(text)
    elif pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        text = pc.replace_substring_regex(text, r"(\.\d*[1-9])0+(Z?)$", r"\1\2")
        text = pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")
    return text, None


def _without_exponents(text: pa.Array) -> pa.Array:
    hint = pc.fill_null(pc.match_substring_regex(text, r"[eE]|^-0$"), False)
    if not pc.any(hint).as_py():
        return text
    encoded = text.filter(hint).dictionary_encode()
    spelled = ["0" if number == "-0" else plain_number(number) for number in encoded.dictionary.to_pylist()]
    return pc.replace_with_mask(text, hint, pa.array(spelled, pa.string()).take(encoded.indices))


def _decoded(array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """A column of text or bytes as strings. A value that is not UTF-8 is replaced by what can be decoded."""
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    elif pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type):
        array = array.view(pa.string())
    if is_valid(array):
        return array, None
    values: list[str | None] = []
    faults: list[str | None] = []
    for item in array.view(pa.binary()).to_pylist():
        try:
            values.append(None if item is None else item.decode())
            faults.append(None)
        except UnicodeDecodeError:
            values.append(broken_text(item))
            faults.append(INVALID_UTF8)
    return pa.array(values, pa.string()), pa.array(faults, pa.string())


def _to_parts_text(array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Lists of content parts as text, the parts on lines of their own. A part that is not text becomes `[<type>]`."""
    parts = array.flatten()
    if not pa.types.is_struct(parts.type) or not {"text", *THINKING_PARTS} & {field.name for field in parts.type}:
        raise WrongType(array.type)
    fields, faults = convert(parts, PARTS.value_type)
    kind, text, *reasoning = (pc.struct_field(fields, index) for index in range(len(PARTS.value_type)))
    thinking = thinking_block(pc.coalesce(*reasoning, text))
    is_text = pc.and_(pc.is_valid(text), pc.or_(pc.is_null(kind), pc.is_in(kind, pa.array(TEXT_PARTS))))
    is_thinking = pc.and_(pc.is_valid(thinking), pc.fill_null(pc.is_in(kind, pa.array(THINKING_PARTS)), False))
    other = pc.binary_join_element_wise("[", pc.fill_null(kind, "part"), "]", "")
    texts = pc.if_else(is_text, text, pc.if_else(is_thinking, thinking, other))
    bad = pc.if_else(pc.or_(is_text, is_thinking), pa.scalar(None, pa.string()), NON_TEXT_PART)
    joined = pc.binary_join(_list_like(array, texts, pa.list_(pa.string())), "\n")
    joined = pc.if_else(pa.array(list_lengths(array) > 0), joined, pa.scalar(None, pa.string()))
    return joined, _of_rows(array, _first(faults, bad if bad.null_count < len(bad) else None))


def thinking_block(text: Any) -> Any:
    """Reasoning (a string column) as a block in the tags of the family `column`; null stays null."""
    # The block ends at the first closing tag, so the reasoning itself must not contain one.
    inner = pc.replace_substring_regex(text, r"(?i)</?reasoning_content\b[^<>]{0,200}>", "")
    return pc.binary_join_element_wise("<reasoning_content>", inner, "</reasoning_content>", "\n")


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of any kind that is read."""
    return any((pa.types.is_list(kind), pa.types.is_large_list(kind), pa.types.is_fixed_size_list(kind)))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text or bytes of any length."""
    strings = pa.types.is_string(kind), pa.types.is_large_string(kind), pa.types.is_string_view(kind)
    binary = pa.types.is_binary(kind), pa.types.is_large_binary(kind), pa.types.is_binary_view(kind)
    return any((*strings, *binary))


def list_lengths(array: pa.Array) -> np.ndarray:
    """The lengths of the lists of an array, int64 [rows]; 0 for null."""
    return np.asarray(pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), np.int64)


def _list_like(array: pa.Array, items: pa.Array, to: pa.DataType) -> pa.Array:
    """Lists of `items` with the lengths and nulls of the lists in `array`."""
    ends = np.cumsum(list_lengths(array))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, type=to, mask=array.is_null())


def _of_rows(array: pa.Array, faults: pa.Array | None) -> pa.Array | None:
    """The faults of the elements of lists as faults of the lists: the last of each."""
    if faults is None or faults.null_count == len(faults):
        return None
    rows = np.repeat(np.arange(len(array)), list_lengths(array))
    bad = np.flatnonzero(faults.is_valid().to_numpy(zero_copy_only=False))
    of_row: list[str | None] = [None] * len(array)
    for row, fault in zip(rows[bad].tolist(), faults.take(pa.array(bad)).to_pylist(), strict=True):
        of_row[row] = fault
    return pa.array(of_row, pa.string())


def _first(one: pa.Array | None, other: pa.Array | None) -> pa.Array | None:
    return other if one is None else one if other is None else pc.coalesce(one, other)


def _transposed(array: pa.StructArray) -> pa.Array:
    """A struct of lists, as the `datasets` library stores a list of structs, as lists of structs."""
    children = [pc.struct_field(array, index) for index in range(array.type.num_fields)]
    lists = [(field.name, child) for field, child in zip(array.type, children, strict=True) if is_list(child.type)]
    if not lists or any((list_lengths(child) != list_lengths(lists[0][1])).any() for _, child in lists):
        raise WrongType(array.type)
    items = pa.StructArray.from_arrays([child.flatten() for _, child in lists], [name for name, _ in lists])
    return _list_like(lists[0][1], items, pa.list_(items.type))


# JSON text


def variants(columns: pa.Schema) -> list[pa.Schema]:
    """The schemas in which files store columns of this schema: as it is, with content parts, or as JSON text."""
    if not any(pa.types.is_nested(field.type) for field in columns):
        return [columns]
    as_text = [pa.field(field.name, pa.string()) if pa.types.is_nested(field.type) else field for field in columns]
    return [columns, pa.schema([_with_parts(field) for field in columns]), pa.schema(as_text)]


def _with_parts(field: pa.Field, inside: bool = False) -> pa.Field:
    kind = field.type
    if pa.types.is_list(kind):
        return pa.field(field.name, pa.list_(_with_parts(kind.value_field, inside)))
    if pa.types.is_struct(kind):
        return pa.field(field.name, pa.struct([_with_parts(child, True) for child in kind]))
    return pa.field(field.name, PARTS) if inside and field.name in ("content", "value") else field


def from_json_text(text: pa.Array, to: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
    """Lists or structs from a column with their JSON as text, and the fault of each row. Blank text is null.

    Text that is not JSON is read as a Python literal, as pandas writes lists into CSV files.
    """
    blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    text = pc.if_else(blank, pa.scalar(None, pa.string()), text)
    # In JSON a newline is white space, so that every value can be one line.
    lines = pc.replace_substring_regex(text, r"[\r\n]+", " ")
    data = b"".join(b'{"v":%s}\n' % line.encode() for line in pc.fill_null(lines, "null").to_pylist())
    for schema in variants(pa.schema([pa.field("v", to)]))[:2]:
        try:
            table = read_json_lines(data, schema)
            if table.num_rows == len(text):
                return convert(table["v"].combine_chunks(), to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, WrongType):
            continue
    values: list[Any] = []
    faults: list[str | None] = []
    for value in text.to_pylist():
        try:
            values.append(None if value is None else from_json(literal(value), to))
            faults.append(None)
        except Fault as fault:
            values.append(None)
            faults.append(str(fault))
    return pa.array(values, to), pa.array(faults, pa.string())


def read_json_lines(data: bytes | bytearray, schema: pa.Schema) -> pa.Table:
    """The rows of JSON lines as Arrow parses them. Raises: pyarrow.ArrowInvalid: if it refuses one."""
    if not data:
        return schema.empty_table()
    return pa.json.read_json(
        pa.BufferReader(data),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def literal(text: str) -> Any:
    """The value of JSON text, or of a Python literal. Raises: Fault: if it is neither."""
    try:
        return DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise Fault(BROKEN_JSON) from None


class Number(str):
    """A number as it is spelt in the file, without an exponent where a person would write none."""


def _number(text: str) -> Number:
    return Number(plain_number(text) if "e" in text or "E" in text else text)


class Repeating(dict[str, Any]):
    """An object of JSON that has keys twice. repeated: these keys. The values are the last."""

    repeated: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeating = Repeating(value)
    repeating.repeated = frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return repeating


DECODER = json.JSONDecoder(
    parse_int=Number,
    parse_float=_number,
    parse_constant=lambda name: None if name == "NaN" else Number(name),
    object_pairs_hook=_object,
)
"""Decodes JSON with numbers as they are spelt, NaN as null, and objects that have a key twice as Repeating."""


def member(value: dict[str, Any], name: str, default: Any = None) -> Any:
    """The value of an object's key. Raises: Fault: if the object has the key twice."""
    if isinstance(value, Repeating) and name in value.repeated:
        raise Fault(REPEATED_KEY)
    return value.get(name, default)


def from_json(value: Any, to: pa.DataType) -> Any:
    """A JSON value as a value of the Arrow type: string, or lists and structs of strings.

    Raises: Fault: if the value is of another kind.
    """
    if value is None:
        return None
    if pa.types.is_list(to):
        if isinstance(value, str) and not isinstance(value, Number):
            if not value.strip():
                return None
            value = literal(value)
        if isinstance(value, dict) and value and all(isinstance(items, list) for items in value.values()):
            value = [dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)]
        if not isinstance(value, list):
            raise Fault(WRONG_TYPE)
        return [from_json(item, to.value_type) for item in value]
    if pa.types.is_struct(to):
        if not isinstance(value, dict):
            raise Fault(WRONG_TYPE)
        return {field.name: _field(member(value, field.name), field.type) for field in to}
    assert pa.types.is_string(to), f"JSON is read as text, not as {to}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float):  # of a Python literal
        return None if value != value else plain_number(repr(value))
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return "\n".join(_part(part) for part in value)
    raise Fault(WRONG_TYPE)


def _field(value: Any, to: pa.DataType) -> Any:
    """The field of a struct: as `from_json`. A list where text is requested has content parts, or strings."""
    if pa.types.is_string(to) and isinstance(value, list):
        return "\n".join(map(_part, value)) if value else None
    return from_json(value, to)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise Fault(WRONG_TYPE)
    kind, text = part.get("type"), part.get("text")
    if isinstance(text, str) and (kind is None or kind in TEXT_PARTS):
        return text
    if kind in THINKING_PARTS:
        reasoning = next((part[name] for name in (*THINKING_PARTS, "text") if isinstance(part.get(name), str)), None)
        if reasoning is not None:
            return str(thinking_block(pa.array([str(reasoning)]))[0].as_py())
    raise Fault(NON_TEXT_PART if kind is not None or "text" not in part else WRONG_TYPE)


# Nested columns


def path_of(name: str, names: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """(column, keys below it) that a name such as `qa.q` or `choices.0.text` means, among the columns `names`.

    A column of just that name is meant first. None if there is no such column.
    """
    known = set(names)
    pieces = name.split(".")
    for size in range(len(pieces), 0, -1):
        column = ".".join(pieces[:size])
        if column in known:
            return column, tuple(pieces[size:])
    return None


def below(array: pa.Array, keys: Sequence[str]) -> pa.Array | None:
    """The values below keys of structs and positions of lists; null where a list is shorter.

    None if a struct lacks a key.
    """
    for key in keys:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_struct(array.type):
            index = array.type.get_field_index(key)
            if index < 0:
                return None
            array = pc.struct_field(array, index)
        elif is_list(array.type) and key.isdigit():
            lengths = list_lengths(array)
            absent = lengths <= int(key)
            indices = np.where(absent, 0, np.cumsum(lengths) - lengths + int(key))
            array = array.flatten().take(pa.array(indices, mask=absent))
        else:
            return None
    return array


MISSING = object()
"""What `lookup` returns for a key that is not there."""


def lookup(value: Any, name: str) -> Any:
    """The value of a key of an object, or below it (`qa.q`, `choices.0.text`); MISSING if it is not there.

    Raises: Fault: if an object has the key twice.
    """
    if name in value:
        return member(value, name)
    place = path_of(name, value) if "." in name else None
    if place is None:
        return MISSING
    value = member(value, place[0])
    for key in place[1]:
        if isinstance(value, dict):
            value = member(value, key, MISSING)
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


def nested_names(value: Any, depth: int = 3) -> list[str]:
    """The names of an object's columns; a column that holds an object by those of its keys (`qa.q`)."""
    names: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict) and item and depth > 1 and len(item) <= 50:
            names += [f"{key}.{name}" for name in nested_names(item, depth - 1)]
        else:
            names.append(str(key))
    return names


def are_turns(items: Sequence[Any]) -> bool:
    """Whether items are the turns of a conversation, in one of the spellings of TURN_NAMES."""
    keys = {key for item in items if isinstance(item, dict) for key in item}
    return all(any(key in keys for key in names) for names in TURN_NAMES)
