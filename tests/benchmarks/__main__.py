"""`python -m tests.benchmarks [NAME ...]`: measure, print, and write docs/benchmarks/<name>-<hardware>-<date>.md.

Each module here has `bench(data) -> rows`, or rows by heading; `data` is the folder of real data, or None where there
is none. Machines are noisy: what counts is the ratio of two things measured in one run, and CPU time rather than wall
time.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = (
    "filters",
    "verdicts",
    "dedup",
    "contamination",
    "contamination_forms",
    "paraphrase",
    "peers",
    "thinking",
    "tokens",
    "sampling",
    "training",
    "build",
    "startup",
    "rates",
    "dedup_state",
    "dedup_growth",
    "scorers",
    "serving",
    "rewrite",
    "classifiers",
    "arithmetic",
    "perplexity",
    "swapped",
    "object_store",
    "verify",
    "report",
    "standards",
)
BY_NAME = (
    "agreement",
    "comparison",
    "int4",
    "shuffle",
    "statistics",
    "lm_eval_parity",
    "noise",
    "driver",
    "run_diff",
    "why",
    "forget",
    "faults",
    "cost",
    "beside",
    "speedup",
    "build_growth",
    "ingest",
    "sft",
    "heads",
    "experts",
)
"""Those that take long: they run when they are named, `make bench` leaves them out."""

Row = dict[str, object]


def hardware() -> str:
    """The processor's name and the number of processors, as part of a file's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    name = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", "", name)
    return f"{os.cpu_count()}x-" + "-".join(name.lower().split())


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table; columns in order of first use."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [
            f"{value:,.3g}"
            if isinstance(value, float) and abs(value) < 1000
            else f"{value:,.0f}"
            if isinstance(value, float)
            else str(value)
            for value in (row.get(column, "") for column in columns)
        ]
        for row in rows
    ]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, *BY_NAME, []], help=f"default: all but {', '.join(BY_NAME)}"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the reports")
    arguments = parser.parse_args()
    data = Path(os.environ.get("WINNOW_SHARED_DATA") or ROOT / "../shared/data").resolve()
    folder = data if data.is_dir() else None
    if folder is None:
        print(f"no real data at {data}: measuring on generated text", file=sys.stderr)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    for name in arguments.names or NAMES:
        print(f"\n{name} ...", file=sys.stderr)
        made = importlib.import_module(f"tests.benchmarks.{name}").bench(folder)
        # A table, or several under their headings.
        parts = made if isinstance(made, dict) else {"": made}
        text = "\n\n".join((f"### {title}\n\n" if title else "") + table(rows) for title, rows in parts.items())
        print(f"\n## {name}\n\n{text}", flush=True)
        path = arguments.out / f"{name}-{hardware()}-{today}.md"
        source = "real data" if folder else "generated text"
        again = f"{'`make bench` or ' if name in NAMES else ''}`python -m tests.benchmarks {name}`"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"# {name}, {today}\n\nOn {hardware()}, Python {platform.python_version()}, {source}. "
            f"Reproduce with {again}.\n\n{text}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
