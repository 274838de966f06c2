"""What a score is: a measure of each record, some by a model that is trained on the recipe's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from filters.text import TextField

PREFIX = "score_"
"""How the columns of scores begin. A score that names groups of rows (`subject`) has a column without it."""


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""One name, or a list of them."""


class Rows(BaseModel):
    """A choice of rows to train on: those for which everything that is given holds.

    source: the name of a source, or a list of them. dropped: rows that a stage or step dropped, by `stage` or
    `stage/reason`; without it the rows are those still kept. column: a column of the records, one of `extra` of a
    source. min, max: limits of its values as numbers. equals: one of its values, as text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Names = ()
    dropped: Names = ()
    column: str | None = None
    min: float | None = None
    max: float | None = None
    equals: Names = ()

    MAIN_KEY: ClassVar = "source"

    @model_validator(mode="after")
    def _check(self) -> Self:
        limits = self.min is not None or self.max is not None or bool(self.equals)
        if limits and self.column is None:
            raise ValueError("`min`, `max` and `equals` are limits of a `column`; name it")
        if self.column is not None and not limits:
            raise ValueError(f"`column: {self.column}` needs `min`, `max` or `equals`")
        if not (self.source or self.dropped or self.column):
            raise ValueError("no rows are chosen; give `source`, `dropped` or `column`")
        return self


def _choice(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _choices(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


Choices = Annotated[
    tuple[Annotated[Rows, BeforeValidator(_choice, json_schema_input_type=str | Rows)], ...],
    BeforeValidator(_choices, json_schema_input_type=str | Rows | list[str | Rows]),
    Field(min_length=1),
]
"""Choices of rows, any of which may hold. A recipe may write one, and the name of a source for all of its rows."""


class Score(BaseModel):
    """A measure of each record.

    kind: how it is measured. name: of the score, by default its kind; its column is `score_<name>`. min_chars: a row
    whose response has fewer characters is not measured: one word says little about a style.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    VERSION: ClassVar[int] = 1
    """Raise it when the code measures otherwise."""

    kind: str
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)
    min_chars: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _name_by_kind(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "name" not in values:
            return {**values, "name": cls.model_fields["kind"].default}
        return values

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        """What it adds to a record: float32 columns named `score_...`, or a string column that names a group."""
        return (pa.field(PREFIX + self.name, pa.float32()),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of earlier scores whose columns `measure` reads."""
        return ()

    @property
    def reads(self) -> tuple[TextField, ...]:
        """The fields of a record that `measure` reads: rows with the same text there have the same score. Beside them
        are those of the scores that it needs."""
        return ("instruction", "response")

    def check(self) -> None:
        """Raises: ValueError, FileNotFoundError, ImportError: if the score lacks a file or a package, or cannot be."""

    def parameters(self) -> dict[str, Any]:
        """Everything that `measure` depends on beside the model, as JSON values. It is hashed into step keys."""
        return {**self.model_dump(mode="json"), "version": self.VERSION}

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """A table [rows] of `columns`, null where a record cannot be measured.

        A measure depends on the record alone: shards are cut anywhere. model: path of the file that `train` wrote.
        """
        raise TypeError(f"{type(self).__name__} does not implement measure")


class TrainedScore(Score):
    """A score with a model, which a step of its own trains on rows of the recipe.

    max_rows: at most so many rows of each label, chosen by their digests. Equal rows count once.
    """

    max_rows: int = Field(default=50_000, ge=1)

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        """Label -> the rows that have it."""
        raise TypeError(f"{type(self).__name__} does not implement training")

    def train_parameters(self) -> dict[str, Any]:
        """Everything that the model depends on beside its rows: by default all parameters of the kind itself."""
        return {name: value for name, value in self.parameters().items() if name not in ("name", "min_chars")}

    def held_out(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Which of the rows of `train` are not trained on, but measured: bool [rows]. By default none."""
        return np.zeros(rows.num_rows, np.bool_)

    def learned_from(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Of which training rows the model knows the label: bool [rows]. Their scores say nothing about other rows.

        rows: those of `train`. By default all that are not held out.
        """
        return ~self.held_out(rows)

    def as_read(self, field: TextField, texts: pa.StringArray) -> pa.Array:
        """The texts of a field of records as the model reads them: strings [rows], of any string type. Texts that
        become equal have the same score. By default all of each text."""
        return texts

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Train the model and write it to one file, whose bytes depend on the rows alone.

        rows: id, source, condition, instruction, response, digest, the columns of `needs`, and `label` (string), in
        order of their digests. path: a local file.
        Returns: what is worth knowing, measured on rows that were held out, for the manifest: `{"auc": 0.91}`.
        """
        raise TypeError(f"{type(self).__name__} does not implement train")
