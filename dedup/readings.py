"""The readings: when are two texts the same?

There are three. Each equates more than the one before.

| reading | used by | equates | where |
|---|---|---|---|
| exact | exact duplicates | Unicode's equivalent forms (NFC), line ends, white space around the text | `dedup.exact` |
| near | near duplicates | what a reader sees as the same text: case, prose punctuation, typesetting | here |
| markup_free | contamination | the same without markup, in other spellings of numbers and letters | here |

The last two are tables for one tokenizer (`dedup.tokens`). docs/readings.md lists what each of them equates and what it
tells apart. READING_VERSION is part of the keys of all steps that compare texts: raise it with every change.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.characters import CharacterTables, character_tables
from dedup.latex import commands
from dedup.markup import Markup, markup_tables, name_table

Reading = Literal["near", "markup_free"]

READING_VERSION = 6
"""The version of all three readings."""


class CommandTable(NamedTuple):
    """LaTeX commands by the FNV-1a hash of their names (`dedup.symbols.look_up`): keys uint64, values int32."""

    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.int32]


@functools.cache
def reading_tables(reading: Reading) -> tuple[CharacterTables, CommandTable, Markup | None]:
    """The tables that `dedup.tokens.scan_tokens` takes. The last one is None for the near reading.

    Raises:
        ValueError: if the reading is unknown.
    """
    if reading not in ("near", "markup_free"):
        raise ValueError(f"reading must be 'near' or 'markup_free', not {reading!r}")
    markup_free = reading == "markup_free"
    table = CommandTable(*name_table(commands()))
    return character_tables(markup_free), table, markup_tables() if markup_free else None
