"""What a command was asked for is on stdout, everything else on stderr; and what it loads to answer."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.answer import Columns, print_answer
from flows.styled import bold
from pipelines.ledger.runs import open_run

WINNOW = Path(sys.executable).parent / "winnow"
RECIPE = """
name: few
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 120}
  - {name: mine, path: mine.jsonl, columns: {instruction: q, response: a}, condition: direct}
stages: [{kind: placeholder}]
contamination: {benchmarks: [{name: generated, rows: 60}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""
ODD = "Say [bold]hi[/bold] :warning: to café/naïve\u2028and 你好"


@pytest.fixture(scope="module", autouse=True)
def reported(server: dict[str, str]) -> Iterator[None]:
    """All commands here report to one Prefect server."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_HOME", "PREFECT_API_URL"):
            patch.setenv(name, server[name])
        yield


@pytest.fixture(scope="module")
def built(reported: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its run, and `build.out` and `build.err`, which the build printed into pipes."""
    folder = tmp_path_factory.mktemp("few")
    rows = [{"q": "Name a colour.", "a": "Blue."}, {"q": "Name a colour.", "a": "Blue."}, {"q": ODD, "a": "\\ / \t"}]
    rows.append({"q": ODD, "a": 'Hello: <a> & "b" / c \\ d'})
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "few.yaml").write_text(RECIPE, encoding="utf-8")
    done = winnow("build", "few.yaml", "--engine", "local", "--workers", "1", folder=folder)
    (folder / "build.out").write_text(done.stdout, encoding="utf-8")
    (folder / "build.err").write_text(done.stderr, encoding="utf-8")
    winnow("why", "mine/mine/3", folder=folder)  # makes the indexes, once
    return folder


def winnow(*words: str | Path, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([WINNOW, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_build_prints_its_run_on_stdout_and_its_progress_on_stderr(built: Path) -> None:
    out, err = ((built / name).read_text(encoding="utf-8") for name in ("build.out", "build.err"))
    run = open_run(str(built / "winnow-data"), "latest").id
    assert out.startswith(f"{run}: ") and "report.html" in out and "winnow train" in out
    assert "ingest" in err and run not in err


QUESTIONS: dict[str, tuple[list[str], str]] = {
    "plan": (["few.yaml"], "all steps"),
    "sources": ([], r"gsm8k .*MIT"),
    "why": (["mine/mine/3"], r"Say \[bold\]hi\[/bold\] :warning: to café/naïve"),
    "similar": (["latest", "--text", 'Hello: <a> & "b" / c \\ d', "--on", "response"], r"1\.000  mine/mine/3"),
    "clusters": (["latest", "--top", "100"], r"mine/mine/1  \(exact\)"),
    "diff": (["latest", "latest"], r"ingest +same"),
    "report": ([], r"report\.html$"),
    "verify": ([], "verified: .* rows"),
    "stages": ([], r"max_chars: 32768  \(whole number, characters\)"),
    "runs": ([], r"few-\w{8} .* 124 +\d+ .* present"),
}


@pytest.mark.parametrize("command", QUESTIONS)
def test_an_answer_goes_through_a_pipe_as_plain_text(built: Path, command: str) -> None:
    words, expected = QUESTIONS[command]
    done = winnow(command, *words, folder=built)
    assert re.search(expected, done.stdout, re.MULTILINE), done.stdout
    assert not re.search("[\x1b─-╿]", done.stdout) and done.stdout.strip("\n") + "\n" == done.stdout
    # With --json the same question has one JSON object, and nothing on stderr.
    done = winnow(command, *words, "--json", folder=built)
    assert isinstance(json.loads(done.stdout), dict) and not done.stderr


STEERING = "\x1b[31mred\x1b]0;title\x07 \x00 \x9b2J \u202eabc\u2066 \r overwritten"


@pytest.mark.fault("control characters in a row, on the terminal", "shown as escapes")
def test_control_characters_of_a_text_are_shown_and_own_colours_stay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{STEERING}\tafter\r\nnext"
    shown = r"\x1b[31mred\x1b]0;title\x07 \x00 \x9b2J \u202eabc\u2066 \r overwritten"
    lines = [bold(text), Columns(("left", text), (STEERING, "right"))]
    print_answer({"text": text}, lines, as_json=False)
    plain = capsys.readouterr().out
    assert plain.startswith(f"{shown}\tafter") and plain.count(shown) == 3
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    print_answer({"text": text}, lines, as_json=False)
    coloured = capsys.readouterr().out
    assert f"\x1b[1m{shown}" in coloured and coloured.count(shown) == 3
    assert set(re.findall(r"\x1b\[[0-9;]*m|[^\n\t -~\u2500-\u257f]", coloured)) <= {"\x1b[1m", "\x1b[0m"}
    print_answer({"text": text}, lines, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"text": text}


def test_an_error_shows_control_characters_of_what_it_names(built: Path) -> None:
    done = winnow("why", "mine/\x1b[31mred/\u202e3", folder=built, code=2)
    assert r"\x1b[31mred/\u202e3" in done.stderr and not re.search("[\x1b\u202e]", done.stdout + done.stderr)


def test_a_run_whose_packs_are_gone_is_listed_as_such(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(built / "winnow-data", root)
    (entry,) = json.loads(winnow("runs", "--root", root, "--json", folder=built).stdout)["runs"]
    assert entry["packs"] is True and entry["tokens"] > 0 and entry["bytes"] > 0
    shutil.rmtree(next((root / "steps").glob("pack-[0-9a-f]*")))
    (entry,) = json.loads(winnow("runs", "--root", root, "--json", folder=built).stdout)["runs"]
    assert entry["packs"] is False and entry["tokens"] is None and 0 < entry["rows_kept"] < 124
    assert "no runs here" in winnow("runs", "--root", tmp_path / "empty", folder=built).stdout


def test_a_stage_is_shown_in_full(tmp_path: Path) -> None:
    shown = winnow("stages", "language", folder=tmp_path).stdout
    assert "probability, 0 to 1" in shown and "ISO 639-1" in shown and "reasons  other_language" in shown


def test_the_version_is_printed_without_loading_anything(tmp_path: Path) -> None:
    assert re.match(r"winnow \S.*, Python 3\.\d+\.\d+\n$", winnow("--version", folder=tmp_path).stdout)


def test_the_shell_completes_commands_and_stages(tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        environment = os.environ | {
            "_WINNOW_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))
        }  # fmt: skip
        done = subprocess.run([WINNOW], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert completed("winnow st") == ["stages"]
    assert completed("winnow stages lan") == ["language"]
    assert "complete_bash" in winnow("--show-completion", "bash", folder=tmp_path).stdout


def test_help_is_an_answer_too(tmp_path: Path) -> None:
    done = winnow("build", "--help", folder=tmp_path)
    assert "--workers" in done.stdout and not done.stderr and not re.search("[\x1b─-╿]", done.stdout)


@pytest.mark.parametrize("words", [["sources"], ["sources", "--json"], ["plan", "few.yaml"]], ids=" ".join)
def test_a_reader_that_closes_the_pipe_ends_the_command_without_a_message(built: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([WINNOW, *words], cwd=built, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


LOADED = """
import contextlib, io, sys
from flows.cli.main import run
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    run()
print(*{name.partition(".")[0] for name in sys.modules})
"""
SERVERS = {"prefect", "ray", "torch", "transformers"}
COMPUTING = {"pandas", "polars", "numba", "scipy", "datasets", "filters", "multiprocessing"}


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["--help"], {*SERVERS, *COMPUTING, "numpy", "pyarrow", "pydantic", "fsspec", "rich", "yaml"}),
        (["build", "--help"], {*SERVERS, *COMPUTING, "numpy", "pyarrow", "fsspec", "rich", "yaml"}),
        (["why", "mine/mine/3"], {*SERVERS, *COMPUTING}),
        (["why", "mine/mine/1"], {*SERVERS, *COMPUTING}),
    ],
    ids=" ".join,
)
def test_a_command_loads_no_library_that_it_does_not_need(built: Path, words: list[str], unneeded: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], cwd=built, capture_output=True, text=True, check=True, timeout=300
    )
    assert not unneeded & set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(("words", "seconds"), [(["--help"], 0.3), (["why", "mine/mine/3"], 1.0)], ids=["help", "why"])
def test_start_up_takes_little_cpu_time(built: Path, words: list[str], seconds: float) -> None:
    """The best of three, with twice the time that is promised: other tests may run beside this one."""

    def used() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        winnow(*words, folder=built)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(used() for _ in range(3)) < 2 * seconds
