"""Runs the commands of a page: `run_page(ROOT / "docs/own-data.md", tmp_path)`.

A `console` block has commands after `$ `, each followed by what it prints on stdout and stderr, in the order in which a
terminal shows it. `...` stands for any text. The exit code must be 2 where nothing but an error is printed, 1 where one
follows a result, else 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def sessions(text: str) -> list[tuple[str, str]]:
    """(command with its here-document, expected output) of every `console` block."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, _, rest = part.partition("\n")
            here = re.search(r"<<'(\w+)'", first)
            if here:
                body, _, rest = rest.partition(f"\n{here.group(1)}\n")
                first = f"{first}\n{body}\n{here.group(1)}"
            found.append((first, rest))
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether what was printed is what is expected, `...` standing for anything and runs of spaces for one."""
    squeeze = [re.sub(r"[ \t]+", " ", text).strip() for text in (expected, printed)]
    pattern = ".*".join(re.escape(piece) for piece in re.split(r"[ \n]*\.\.\.[ \n]*", squeeze[0]))
    return re.fullmatch(pattern, squeeze[1], re.DOTALL) is not None


def exit_code(expected: str) -> int:
    """The exit code of a command that prints this."""
    lines = [line for line in expected.splitlines() if not line.startswith(("building ", "scanning "))]
    return 2 if lines[:1] and lines[0].startswith("error") else int(any(line.startswith("error") for line in lines))


def run_page(page: Path, folder: Path) -> int:
    """Run the commands of a page in a folder, compare what they print, and return how many there are."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    commands = sessions(page.read_text(encoding="utf-8"))
    for command, expected in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        printed = done.stdout
        assert matches(expected, printed), f"$ {command}\n--- expected\n{expected}\n--- printed\n{printed}"
        assert done.returncode == exit_code(expected), f"$ {command}: exit code {done.returncode}"
    return len(commands)
