"""`python -m tests.cluster`: start the services of docker-compose.yml without Docker, break them, print what happened.

    python -m tests.cluster                       # all scenarios
    python -m tests.cluster --core                # what CI runs
    python -m tests.cluster --list
    python -m tests.cluster --only kill-ray-worker --only build
    python -m tests.cluster --keep                # start the services, and wait for Ctrl-C

It needs Linux, root (name spaces), ip(8) and PostgreSQL. Exit codes: 0 if every scenario ended as it must, 1 if one did
not, 3 if this machine lacks what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from pipelines.ledger.processes import end_with_parent
from tests.cluster import scenarios
from tests.cluster.bench import Bench, Row
from tests.cluster.cluster import Cluster, missing, running
from tests.cluster.compose import ROOT

INSIDE = "WINNOW_CLUSTER_INSIDE"
"""Set in the process that runs in name spaces of its own."""


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run this scenario alone; repeatable"
    )
    parser.add_argument("--core", action="store_true", help="run the scenarios of CI")
    parser.add_argument("--json", action="store_true", help="print one object on stdout in place of the table")
    parser.add_argument("--keep", action="store_true", help="start the services and wait")
    options = parser.parse_args()
    named = scenarios.named()
    if options.list:
        print("\n".join(named))
        return 0
    if unknown := [name for name in options.only if name not in named]:
        parser.error(f"no scenario {', '.join(unknown)}; --list prints them")
    if lacks := missing():
        print(f"left out: this machine lacks {', '.join(lacks)}", file=sys.stderr)
        return 3
    if INSIDE not in os.environ:
        return _in_name_spaces()
    core = {scenario.__name__.replace("_", "-") for scenario in scenarios.CORE}
    chosen = options.only or [name for name in named if not options.core or name in core]
    return _run([] if options.keep else chosen, options.keep, options.json)


def _in_name_spaces() -> int:
    """Run this command again, with networks, mounts and processes of its own: when it ends, so does all it started."""
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    work = tempfile.mkdtemp(prefix="wc-", dir="/tmp")  # /tmp is empty in containers, so volumes are seen as such only
    environment = os.environ | {INSIDE: work, "PYTHONPATH": str(ROOT)}
    parent = os.getpid()
    process = subprocess.Popen(
        [*command, "-m", "tests.cluster", *sys.argv[1:]],
        env=environment, cwd=ROOT, preexec_fn=lambda: end_with_parent(parent),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(work, ignore_errors=True)


def _run(names: list[str], keep: bool, as_json: bool) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)  # for the names of networks
    keys = ("POSTGRES_PASSWORD", "S3_PASSWORD", "RAY_TOKEN", "PREFECT_KEY")
    variables = os.environ | {name: secrets.token_hex(32) for name in keys}
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    for module in ("pipelines.compile", "training.compile"):  # as the image does
        subprocess.run([sys.executable, "-m", module], check=True, cwd=ROOT, stdout=sys.stderr)
    with running(Path(os.environ[INSIDE]), variables) as cluster:
        note(f"started {len(cluster.containers) - 1} containers in {time.monotonic() - started:.0f} s")
        if keep:
            note(f"in another terminal: nsenter -t {os.getpid()} ...; Ctrl-C ends")
            signal.pause()
        bench = Bench(cluster)
        for name in names:
            rows.append(_scenario(name, bench))
            note(f"{name}: {rows[-1]['error'] or rows[-1]['end']} ({rows[-1]['seconds']} s)")
    left = _others()
    rows.append(scenarios.row("end", Row("none: all services ended", f"{len(left)} processes left"), 0))
    if left:
        rows[-1]["error"] = f"left running: {', '.join(left)}"
    seconds = time.monotonic() - started
    if as_json:
        print(json.dumps({"seconds": round(seconds, 1), "scenarios": rows}, indent=2))
    else:
        print(table(rows))
        print(f"\n{len(rows)} scenarios in {seconds:.0f} s")
    return int(any(row["error"] for row in rows))


def _scenario(name: str, bench: Bench) -> dict[str, Any]:
    started = time.monotonic()
    try:
        result, error = scenarios.named()[name](bench), ""
    except Exception as failure:
        result, error = Row(name, "not as it must"), f"{type(failure).__name__}: {failure}"
        note(traceback.format_exc())
        _show_logs(bench.cluster)
    return scenarios.row(name, result, time.monotonic() - started, error)


def _show_logs(cluster: Cluster) -> None:
    for name in cluster.containers:
        if text := cluster.log(name).strip():
            note(f"--- {name}: " + "\n".join(text.splitlines()[-15:]))


def _others() -> list[str]:
    """The command lines of all processes in the name space but this one. The kernel ends them with this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if line:  # not a dead process that waits for its parent
                found.append(line[:100])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The survival table in Markdown."""
    lines = ["| fault | end state | seconds |", "|---|---|---:|"]
    lines += [f"| {row['fault']} | {row['error'].splitlines()[0] if row['error'] else row['end']} | {row['seconds']} |"
              for row in rows]  # fmt: skip
    return "\n".join(lines)


def note(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
