"""The gold sources: real records written or checked by people, which no filter should drop."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import conform
from pipelines.sources import SOURCES

GOLD = {
    "gsm8k": "gsm8k_train.jsonl",
    "math": "math_train.parquet",
    "flan_cot": "flan_cot/*.tsv",
    "t0_p3": "t0_p3_50k.jsonl.gz",
    "arc_challenge": "arc_challenge_train.json",
    "boolq": "boolq_train.json",
    "openbookqa": "openbookqa_train.json",
    "scibench": "scibench/*.json",
    "theoremqa": "theoremqa.json",
    "mawps_asdiv_svamp": "mawps_asdiv_svamp_train.csv",
    "gpteacher": "gpteacher/*.json",
    "self_instruct_seeds": "self_instruct_seed_tasks.jsonl",
}
"""Source -> its files in the folder of real data."""


def records(data: Path) -> pa.Table:
    """The records of the gold sources with text in both fields (1,400 rows of T0/P3 have no response)."""
    tables = []
    for name, pattern in GOLD.items():
        read = SOURCES[name].read
        assert read is not None
        for path in sorted((data / "sources").glob(pattern)):
            tables += [conform(table, name, path.stem).kept for table in read(str(path))]
    table = pa.concat_tables(tables)
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(table["response"])), 0)
    return table.filter(pc.invert(blank)).combine_chunks()
