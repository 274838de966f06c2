"""Read people's ratings from files: numbers for single responses, or preferences between two responses.

Which column holds what is guessed from names and first values, as for the files of a build (`formats.roles`):

| role | of what |
| ---- | ------- |
| `id`, `instruction`, `response` | the row that is rated: by the id of a record, or by its texts |
| `rating` | a number, `4/5`, `80 %`, `yes` or `no`; columns or a list: several raters; `-name`: less is better |
| `response_a`, `response_b` | two responses to one instruction; `chosen` and `rejected` need no preference |
| `preference` | 1, a, model_a, or `source_a`'s value: the first; 2, -1, b: the second; 0, tie: neither. By rater |
| `rater` | who rated, where each line is the rating of one rater |
| `source`, `source_a`, `source_b` | who wrote the response |
| `subject`, `question` | the content type; rows of one question are not independent |
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from filters.scores.score import PREFIX
from pipelines.audit.calibration import Floats
from pipelines.errors import InputError, WinnowError, nearest
from pipelines.formats.numbers import MISSING, above_end, number_of, one_scale
from pipelines.formats.pairs import join_texts
from pipelines.formats.read import column_names, first_rows, read
from pipelines.formats.roles import Guess, guess_of, written_columns

ABSOLUTE = ("id", "instruction", "response", "rating", "rater", "source", "subject", "question")
PAIRED = (
    *("id", "instruction", "response_a", "response_b", "preference", "rater"),
    *("source_a", "source_b", "subject", "question"),
)
ROLES = tuple(dict.fromkeys(ABSOLUTE + PAIRED))

_IDS = ("id", "row_id", "record_id", "sample_id", "example_id", "doc_id", "uid", "item")
_RATINGS = (
    *("rating", "ratings", "stars", "score", "scores", "grade", "quality", "overall", "human_score", "human_rating"),
    *("overall_rating", "overall_score", "is_correct", "correct", "is_good", "good", "label", "labels", "annotations"),
)
_PREFERENCES = ("preference", "preferences", "preferred", "winner", "choice", "vote", "label", "labels", "better")
_RATERS = ("annotator", "rater", "judge", "worker", "evaluator", "labeler")
_RATER_IDS = (*_RATERS, *(f"{name}_id" for name in _RATERS), "rated_by", "user")
_SOURCES = ("source", "model", "system", "generator", "dataset", "model_name")
_SUBJECTS = ("subject", "category", "domain", "topic", "content_type")
_QUESTIONS = ("question_id", "prompt_id", "instruction_id", "item_id", "group")
_RESPONSE_WORDS = ("response", "answer", "output", "completion", "reply", "text", "generation", "assistant", "message")
_SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
_CHOSEN = ("chosen", "rejected")

_TIES = ("0", "tie", "both", "equal", "same", "draw", "neither", "none", "c")
_TIE_WORDS = ("tie", "tied", "both", "bothbad", "equal", "equally", "same", "draw", "neither")
"""Words that say a tie anywhere in a longer answer, such as `about the same`."""

_SAMPLE = 200


class RatedRows(NamedTuple):
    """Ratings as they were read, of one kind.

    rows: `file`, `row` (from 0), `key`, `id`, `instruction`, `response` or `response_a` and `response_b`, `source` or
    `source_a` and `source_b`, `subject`, `question`; strings, null where unknown. One line for each rated row or pair.
    values: [lines, raters], NaN where a rater did not rate; preferences are 1, -1 and 0. columns: file -> what was read
    from which column. ignored: lines without any rating. repeated: lines that are left out because all that was read
    of them is in a line before. unnamed: rows with several ratings by people who are not told apart, so that nothing
    is known of their agreement.
    """

    pairs: bool
    rows: pl.DataFrame
    values: Floats
    columns: dict[str, dict[str, str]]
    ignored: int
    repeated: int = 0
    unnamed: int = 0

    @property
    def by_id(self) -> bool:
        """Whether the rows are named by id, without texts."""
        return self.rows["response_a" if self.pairs else "response"].null_count() == len(self.rows)


def read_ratings(paths: Sequence[str], columns: Mapping[str, str | Sequence[str]] | None = None) -> RatedRows:
    """The ratings of files.

    paths: CSV, TSV, JSON, JSON Lines or Parquet, plain or compressed. columns: role -> column, or several; what is
    not named is guessed.

    Raises: InputError: if a file cannot be read, or a line has a rating that cannot be. WinnowError: if the columns
    cannot be told, or the files have different kinds of ratings.
    """
    for role in columns or {}:
        if role not in ROLES:
            raise WinnowError(f"--columns {role}=...: {nearest(role, ROLES)}")
    parts: list[tuple[bool, pl.DataFrame, list[list[float]]]] = []
    roles_of: dict[str, dict[str, str]] = {}
    for path in paths:
        roles = guess_roles(path, columns or {})
        pairs = "preference" in roles or "response_a" in roles
        roles_of[path] = {role: written_columns({role: name}).partition("=")[2] for role, name in roles.items()}
        frame, lines, reading = _read_file(path, roles, pairs)
        if reading:
            roles_of[path]["preference"] += f" ({reading})"
        parts.append((pairs, frame, lines))
    kinds = {pairs for pairs, _, _ in parts}
    if len(kinds) > 1:
        raise WinnowError("some files have ratings of single responses and others preferences; give each kind alone")
    table = pl.concat([frame for _, frame, _ in parts])
    raters = max((len(line) for _, _, lines in parts for line in lines), default=0)
    values = np.full((len(table), max(raters, 1)), np.nan)
    for number, line in enumerate(line for _, _, lines in parts for line in lines):
        values[number, : len(line)] = line
    first = _first_lines(table, values)
    table, values, unnamed = _merged(table.filter(pl.Series(first)), values[first])
    rated = ~np.isnan(values).all(axis=1)
    if not rated.any():
        raise InputError(f"{', '.join(paths)}: no line has a rating")
    return RatedRows(
        kinds.pop(),
        table.filter(pl.Series(rated)),
        values[rated],
        roles_of,
        int((~rated).sum()),
        int((~first).sum()),
        unnamed,
    )


def _first_lines(table: pl.DataFrame, values: Floats) -> npt.NDArray[np.bool_]:
    """Which lines are not the copy of a line before, in all that was read: bool [lines]. A copy is no second rating.

    Lines with neither an id nor a rater are no copies: equal answers of two models may have equal ratings.
    """
    ratings = [pl.Series(f"rating_{number}", column) for number, column in enumerate(values.T)]
    lines = table.drop("file", "row").with_columns(ratings)
    known = pl.col("id").is_not_null() | pl.col("rater").is_not_null()
    first: npt.NDArray[np.bool_] = lines.select(~known | pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return first


def _merged(table: pl.DataFrame, values: Floats) -> tuple[pl.DataFrame, Floats, int]:
    """Lines about the same row as one: the ratings of several people, one below the other; and the number of rows that
    have several lines without a rater.

    Equal texts with neither an id nor a rater are rows of their own, such as equal answers of two models.
    """
    long = table["id"].is_not_null() | table["rater"].is_not_null()
    if not table["key"].filter(long).is_duplicated().any():
        return table, values, 0
    table = table.with_columns(key=pl.when(long).then("key").otherwise(pl.format("{}\x1f{}", "file", "row")))
    given = [
        (key, rater, value)
        for key, line, rater_name in zip(table["key"], values, table["rater"], strict=True)
        for number, value in enumerate(line)
        if not math.isnan(value)
        for rater in [f"{rater_name or ''}\x1f{number}"]
    ]
    first = table.unique("key", keep="first", maintain_order=True)
    place = {key: number for number, key in enumerate(first["key"])}
    # People without a name are numbered within each row: only how many there are is known.
    named = table["rater"].null_count() < len(table)
    known: dict[str, int] = {}
    used = [0] * len(first)
    cells: list[tuple[int, int, float]] = []
    for key, rater, value in given:
        row = place[key]
        column = known.setdefault(rater, len(known)) if named else used[row]
        used[row] += 1
        cells.append((row, column, value))
    merged = np.full((len(first), 1 + max((column for _, column, _ in cells), default=0)), np.nan)
    for row, column, value in cells:
        merged[row, column] = value
    unnamed = 0 if named else table["key"].value_counts().filter(pl.col("count") > 1).height
    return first, merged, unnamed


# ------------------------------------------------------------------------------------------------------------ one file


def _read_file(path: str, roles: Guess, pairs: bool) -> tuple[pl.DataFrame, list[list[float]], str]:
    """The rows of a file and their ratings; and how preferences that are numbers were read."""
    rating = "preference" if pairs else "rating"
    signed = [_signed(name, column_names(path)) for name in _names(roles.get(rating, ()))]
    names, signs = [name for name, _ in signed], [sign for _, sign in signed]
    is_list = [_is_list(path, name) for name in names]
    texts = {role: _names(named) for role, named in roles.items() if role != rating}
    fields = {name: pa.string() for named in texts.values() for name in named}
    fields |= {
        name: pa.list_(pa.string()) if several else pa.string() for name, several in zip(names, is_list, strict=True)
    }
    schema = pa.schema([pa.field(name, kind) for name, kind in fields.items()])
    optional = [name for named in texts.values() for name in named[1:]]
    frames: list[pl.DataFrame] = []
    raw: list[list[str | None]] = []
    for table in read(path, schema, optional):
        faults = table["fault"].to_pylist()
        for row, fault in zip(table["row"].to_pylist(), faults, strict=True):
            if fault is not None:
                raise InputError(f"{path}: row {row + 1} cannot be read ({fault}); {_remedy(fault, names)}")
        texts_of = {role: join_texts(*(table[name] for name in texts[role])) for role in ROLES if role in texts}
        frames.append(pl.DataFrame({"row": table["row"], **texts_of}))
        cells_of = [table[name].to_pylist() for name in names]
        raw += [
            [one for cells in cells_of for one in (cells[row] if isinstance(cells[row], list) else [cells[row]])]
            for row in range(table.num_rows)
        ]
    if not frames or not raw:
        raise InputError(f"{path}: has no rows")
    frame = pl.concat(frames)
    wanted = (set(PAIRED) if pairs else set(ABSOLUTE)) - {rating}
    absent = sorted(wanted - set(frame.columns))
    frame = frame.with_columns(
        pl.lit(path).alias("file"), *(pl.lit(None, pl.String).alias(name) for name in absent)
    ).with_columns(key=_key(pairs))
    order = ["file", "row", "key", *(role for role in (PAIRED if pairs else ABSOLUTE) if role in frame.columns)]
    if not names:
        return *_turned_pairs(frame.select(order)), ""
    read_value = _preference_reader(path, raw) if pairs else _rating_reader(path, raw)
    sources = zip(frame["source_a"], frame["source_b"], strict=True) if pairs else [(None, None)] * len(raw)
    values = []
    for row, line, (first, second) in zip(frame["row"], raw, sources, strict=True):
        by_source = {first: 1.0, second: -1.0} if first and second and first != second else {}
        try:
            values.append([by_source[text] if text in by_source else read_value(text) for text in line])
        except ValueError as error:
            raise InputError(f"{path}: row {row + 1}, column {', '.join(names)}: {error}") from None
    if -1.0 in signs:
        values = _turned(values, signs)
    return frame.select(order), values, _numbers_as_preferences(raw) if pairs else ""


def _remedy(fault: str, names: Sequence[str]) -> str:
    """What to do about a line that cannot be read."""
    if fault != "wrong_type":
        return "correct or remove it"
    return (
        "a rating is a number, a text or a list of them. Name a field of an object as "
        f"{names[0] if names else 'rating'}.FIELD, and write several raters as columns, or as lines with a column rater"
    )


def _turned_pairs(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[list[float]]]:
    """Pairs of which the first response is the better one. Every second pair is turned: if the first were always the
    better one, its place would tell."""
    turned = pl.int_range(pl.len()) % 2 == 1
    sides = [(f"{role}_a", f"{role}_b") for role in ("response", "source")]
    frame = frame.with_columns(
        pl.when(turned).then(other).otherwise(one).alias(one) for a, b in sides for one, other in ((a, b), (b, a))
    )
    return frame, [[-1.0 if number % 2 else 1.0] for number in range(len(frame))]


def _turned(values: list[list[float]], signs: Sequence[float]) -> list[list[float]]:
    """Ratings of faults as ratings of quality, on the same scale: 0 of 0 and 1 becomes 1, 1 of 1 to 5 becomes 5."""
    known = [value for line in values for value in line if not math.isnan(value)]
    ends = min(known, default=0.0) + max(known, default=0.0)
    every = list(signs) if len(signs) > 1 else [*signs] * max(map(len, values))
    return [[ends - value if sign < 0 else value for sign, value in zip(every, line, strict=False)] for line in values]


def _key(pairs: bool) -> pl.Expr:
    """What names a rated row: its id and texts."""
    named = ["id", "instruction", *(("response_a", "response_b") if pairs else ("response",))]
    texts = pl.concat_str([pl.col(name).fill_null("") for name in named], separator="\x1f")
    empty = pl.all_horizontal(pl.col(name).is_null() for name in named)
    return pl.when(empty).then(pl.format("{}\x1f{}", "file", "row")).otherwise(texts)


def _names(named: str | Sequence[str]) -> list[str]:
    return [named] if isinstance(named, str) else list(named)


def _signed(name: str, known: Sequence[str]) -> tuple[str, float]:
    """`-hallucination` is the column with the sign turned, unless the column has this name itself."""
    return (name[1:], -1.0) if name.startswith("-") and name not in known else (name, 1.0)


def _is_list(path: str, name: str) -> bool:
    values = [row[name] for row in first_rows(path)[:_SAMPLE] if row.get(name) is not None]
    if values or name not in column_names(path):
        return bool(values) and isinstance(values[0], list)
    try:  # a column of numbers, which `first_rows` leaves out
        next(read(path, pa.schema([pa.field(name, pa.list_(pa.string()))])), None)
    except InputError:
        return False
    return True


def _rating_reader(path: str, raw: Sequence[Sequence[str | None]]) -> Callable[[str | None], float]:
    """How the values of a file are read as numbers.

    Raises: InputError: if they are of several scales, such as `4/5` and `8/10`.
    """
    ends = set()
    for word in {text for line in raw for text in line if text is not None}:
        with contextlib.suppress(ValueError):  # told with its row below
            number, end = number_of(word)
            if not math.isnan(number):
                ends.add(end)
    try:
        scale = one_scale(ends)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None

    def value(text: str | None) -> float:
        """The number; NaN for a blank. Raises: ValueError: if it is none."""
        try:
            number, _ = number_of(text or "")
        except ValueError as error:
            raise ValueError(f"{error}; write numbers for other words, and nothing where there is no rating") from None
        if number > scale:
            raise above_end(repr(text), scale)
        return number

    return value


def _preference_reader(path: str, raw: Sequence[Sequence[str | None]]) -> Callable[[str | None], float]:
    """How the values of a file name the first response, the second, or neither."""
    words = {_word(text) for line in raw for text in line} - set(MISSING) - {"none"}
    numbers = words & {"0", "1", "2", "-1"}
    if words == {"0", "1"}:
        raise InputError(
            f"{path}: preferences 0 and 1 can be read in two ways (0 the first response, or a tie); "
            "write a and b, or 1 and 2 with 0 for a tie"
        )
    signed = "-1" in numbers
    first = {"1", "a", "first", "left", "chosen"}
    second = {"-1"} if signed else {"2", "b", "second", "right", "rejected"}

    def value(text: str | None) -> float:
        word = _word(text)
        if word in MISSING and word != "none":
            return math.nan
        if word in first:
            return 1.0
        if word in second:
            return -1.0
        if word in _TIES:
            return 0.0
        raise ValueError(
            f"{text!r} is no preference; a, b and tie are read, or 1, 2 and 0, or what source_a and source_b have in "
            "the same line"
        )

    return value


def _numbers_as_preferences(raw: Sequence[Sequence[str | None]]) -> str:
    """What the numbers among preferences mean, as `_preference_reader` reads them; empty if there is none."""
    words = {_word(text) for line in raw for text in line}
    meanings = {"1": "the first", "2": "the second", "-1": "the second", "0": "a tie"}
    return ", ".join(f"{word} is {meaning}" for word, meaning in meanings.items() if word in words)


def _word(text: str | None) -> str:
    """`model_a`, `Response A`, `A` -> `a`; `tie (bothbad)` -> `tie`; `1.0` -> `1`."""
    words = re.findall(r"-?[a-z0-9]+", (text or "").lower().replace(".0", ""))
    kept = [word for word in words if word not in ("model", "response", "answer", "output", "assistant", "completion")]
    if any(word in _TIE_WORDS for word in kept):
        return "tie"
    return re.sub(r"^(?:model|response|answer|output)(?=[ab12]$)", "", kept[0]) if kept else ""


# ------------------------------------------------------------------------------------------------------------- columns


def guess_roles(path: str, named: Mapping[str, str | Sequence[str]]) -> Guess:
    """Role -> column, or several. named: what the user said, which is not guessed.

    Raises: WinnowError: naming the columns of the file, and the option to write instead. InputError: as `read`.
    """
    names = column_names(path)
    for role, columns in named.items():
        for column in _names(columns):
            plain = _signed(column, names)[0] if role == "rating" else column
            if plain not in names and plain.partition(".")[0] not in names:
                raise WinnowError(f"{path}: --columns {role}={column}: no such column; {nearest(plain, names)}")
    rows = first_rows(path)[:_SAMPLE]
    roles: Guess = {role: columns if isinstance(columns, str) else tuple(columns) for role, columns in named.items()}
    free = [name for name in names if name not in {one for columns in named.values() for one in _names(columns)}]

    def take(role: str, columns: Sequence[str]) -> None:
        if role not in roles and columns:
            roles[role] = columns[0] if len(columns) == 1 else tuple(columns)
            free[:] = [name for name in free if name not in columns]

    sides = None if {"rating", "response"} & set(named) else _sides(free, _RESPONSE_WORDS)
    if sides is None and not {"rating", "response"} & set(named) and set(_CHOSEN) <= set(free):
        sides = _CHOSEN
    if {"response_a", "response_b"} <= set(named) or sides or "preference" in named:
        for role, column in zip(("response_a", "response_b"), sides or (), strict=False):
            take(role, [column])
        for role, column in zip(("source_a", "source_b"), _sides(free, _SOURCES) or (), strict=False):
            take(role, [column])
        if not _is_chosen(roles):
            take("preference", _several(free, _RATERS, _PREFERENCES) or _named(free, _PREFERENCES)[:1])
    else:
        take("rating", _several(free, _RATERS, _RATINGS) or _named(free, _RATINGS)[:1])
        take("source", _named(free, _SOURCES)[:1])
    take("id", _named(free, _IDS)[:1])
    for role, words in (("rater", _RATER_IDS), ("subject", _SUBJECTS), ("question", _QUESTIONS)):
        take(role, _named(free, words)[:1])
    _guess_texts(roles, free, rows, set(named))
    _check_roles(path, roles, names)
    return roles


def _guess_texts(roles: Guess, free: Sequence[str], rows: Sequence[Mapping[str, Any]], named: Collection[str]) -> None:
    """Add the columns of the instruction and the response, as those of a training file are told."""
    shown = {name: name for name in free}
    known = {role: column for role in ("instruction", "response") if isinstance(column := roles.get(role), str)}
    if isinstance(column := roles.get("response_a"), str):
        known["response"] = column
    shown |= {column: role for role, column in known.items()}
    back = {new: name for name, new in shown.items()}
    guess = guess_of(list(back), [{shown[k]: v for k, v in row.items() if k in shown} for row in rows]) or {}
    wanted = ("instruction",) if "response_a" in roles else ("instruction", "response")
    for role in wanted:
        columns = tuple(back[name] for name in _names(guess.get(role, ())) if name in back)
        if columns and role not in named:
            roles[role] = columns[0] if len(columns) == 1 else columns


def _check_roles(path: str, roles: Guess, names: Sequence[str]) -> None:
    shown = ", ".join(name for name in names[:40] if not name.startswith(PREFIX))
    said = written_columns(roles) or "nothing"
    if "response_a" in roles or "preference" in roles:
        if "preference" not in roles and not _is_chosen(roles):
            raise WinnowError(
                f"{path}: which column holds the preference cannot be told (columns: {shown}; understood: {said}); "
                "name it: --columns preference=winner; several raters: preference=first+second"
            )
        if not {"response_a", "response_b"} <= set(roles) and "id" not in roles:
            raise WinnowError(
                f"{path}: which columns hold the two responses cannot be told (columns: {shown}; understood: {said}); "
                "name them: --columns response_a=left,response_b=right"
            )
        return
    if "rating" not in roles:
        raise WinnowError(
            f"{path}: which column holds the rating cannot be told (columns: {shown}; understood: {said}); name it: "
            "--columns rating=COLUMN; several raters: rating=first+second; a field of an object: rating=COLUMN.FIELD; "
            "a column that marks faults: rating=-COLUMN"
        )
    if "id" not in roles and not {"instruction", "response"} <= set(roles):
        raise WinnowError(
            f"{path}: which rows are rated cannot be told (columns: {shown}; understood: {said}); name the column of "
            "ids, or of the texts: --columns instruction=question,response=answer"
        )


def _is_chosen(roles: Guess) -> bool:
    """Whether the columns of the responses say which one is better."""
    return (roles.get("response_a"), roles.get("response_b")) == _CHOSEN


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def _named(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """The columns with these names, in the order of the words."""
    return [name for word in words for name in names if _plain(name) == word]


def _several(names: Sequence[str], *words: Sequence[str]) -> list[str]:
    """Columns of several raters: `annotator1`, `annotator2` ..., `rating_a`, `rating_b` ..."""
    found: dict[str, list[str]] = {}
    for name in names:
        if match := re.fullmatch(r"([a-z_]+?)_?(\d+|[a-e])", _plain(name)):
            stem = match[1].removesuffix("_id")
            parts = stem.split("_")
            known = [one for group in words for one in group]
            if stem in known or (parts[0] in known and parts[-1] in known):
                found.setdefault(stem, []).append(name)
    return next((columns for columns in found.values() if len(columns) > 1), [])


def _sides(names: Sequence[str], words: Sequence[str]) -> tuple[str, str] | None:
    """Two columns for two responses: `response_a` and `response_b`, `output_1` and `output_2`, `answer2` ..."""
    plain = {_plain(name): name for name in names}
    for first, second in _SIDES:
        for word in words:
            for form in ("{word}_{side}", "{word}{side}", "{side}_{word}", "{word}_{side}_text", "model_{side}_{word}"):
                one, other = (plain.get(form.format(word=word, side=side)) for side in (first, second))
                if one and other:
                    return one, other
    return None


def score_columns(path: str) -> Iterator[str]:
    """The columns of scores in a file: those named `score_...`, or else all that are not ids or texts."""
    names = column_names(path)
    scores = [name for name in names if name.startswith(PREFIX)]
    texts = {name for row in first_rows(path)[:_SAMPLE] for name, value in row.items() if not _numeric(value)}
    yield from scores or [name for name in names if name not in texts and _plain(name) not in _IDS]


def _numeric(value: Any) -> bool:
    try:
        return value is None or not str(value).strip() or math.isfinite(float(str(value)))
    except ValueError:
        return str(value).strip().lower() == "nan"
