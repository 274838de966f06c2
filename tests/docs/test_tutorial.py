"""The tutorial's commands run, in order, and print what it says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")


def sessions() -> list[tuple[str, str]]:
    """(command with its here-document, expected output) of every `console` block."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
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


def test_every_command_prints_what_the_tutorial_says(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    commands = sessions()
    assert len(commands) > 10
    for command, expected in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # in the order in which a terminal shows it
            text=True,
            timeout=200,
            check=False,
        )
        printed = done.stdout
        assert matches(expected, printed), f"$ {command}\n--- expected\n{expected}\n--- printed\n{printed}"
        assert done.returncode == (2 if re.search("^error:", expected, re.MULTILINE) else 0), (
            f"$ {command}: exit code {done.returncode}"
        )
