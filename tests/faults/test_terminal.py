"""Nothing of a corpus steers the terminal: its rows, ids, columns, file names, recipe and root hold what could.

Every command that prints such text is run into a pipe and on a terminal of its own. No control of the data arrives, and
none of its brackets or colons is taken for markup.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.visible import visible, visible_json

WINNOW = Path(sys.executable).parent / "winnow"

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07\x1b]52;c;cm0gLXJm\x07\x1b]8;;http://x.test\x1b\\link\x1b]8;;\x1b\\ \x9b2J "
    "\x9d0;c1\x9c \x7f \u202egnp.\u202c \u2066isolate\u2069 \u2028 \u200b\u200bzero \U000e0061\U000e0062tags "
    "[bold]loud[/bold] [/x] :skull: "
)
"""Escapes that colour, name the window, write the clipboard and make links; C1; bidi controls; hidden text; markup."""

SHOWN = (r"\x1b]52;c;cm0gLXJm\x07", r"\x9b2J", r"\u202egnp.", r"\U000e0061", "[bold]loud[/bold]", "[/x]", ":skull:")
STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200b\U000e0000-\U000e0fff]")
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What Winnow's own styles and progress bar send to a terminal. Colour 31 of the data would need its bracket shown."""

NAME = "[red]q[bold] :skull: \x1b[31m\u202e"
"""A name that a file, a column and a source's path may have."""

ROOT = f"{NAME}[/x]"
"""The root: a folder in a folder, whose path reads like markup that ends what did not begin."""

STEM = NAME.replace("\x1b", "")
"""Of a file: names with control characters are refused, and messages about them have them."""

FILE = re.sub("([][])", r"[\1]", STEM) + ".jsonl"
"""The file, as a path in which brackets are no pattern."""

ANSWERS = ["blue as the sky on a clear day in may", "a small red house at the end of the long road", "seven of nine"]


def run(folder: Path, *words: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"WINNOW_ROOT": str(folder / ROOT), "WINNOW_ENGINE": "local"}
    done = subprocess.run([WINNOW, *words], cwd=folder, env=environment, capture_output=True, timeout=300, check=False)
    assert code is None or done.returncode == code, (done.stdout + done.stderr).decode()
    return done


def on_terminal(folder: Path, *words: str | Path) -> bytes:
    """What a command sends to a terminal that is its stdin, stdout and stderr."""
    main, side = pty.openpty()
    environment = os.environ | {
        "WINNOW_ROOT": str(folder / ROOT), "WINNOW_ENGINE": "local", "TERM": "xterm-256color", "COLUMNS": "300"
    }  # fmt: skip
    process = subprocess.Popen([WINNOW, *words], cwd=folder, env=environment, stdin=side, stdout=side, stderr=side)
    os.close(side)
    sent = b""
    try:
        while part := os.read(main, 65536):
            sent += part
    except OSError:  # the last process that had it open has ended
        pass
    process.wait(timeout=300)
    os.close(main)
    return sent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a built corpus whose every text is hostile; the root is called so too."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [{"q" + NAME: f"{HOSTILE}{text}", "a": f"{text} {HOSTILE}", NAME: HOSTILE} for text in ANSWERS]
    rows += [{"q" + NAME: f"{HOSTILE}{ANSWERS[0]}", "a": f"{ANSWERS[0]} {HOSTILE}"}] * 2
    rows += [{"q" + NAME: f"{HOSTILE}{ANSWERS[1]} ", "a": f"{ANSWERS[1]}, {HOSTILE}."}, {"q" + NAME: HOSTILE, "a": ""}]
    (folder / f"{STEM}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "items.jsonl").write_text(
        json.dumps({"question": rows[1]["q" + NAME], "answer": rows[1]["a"] + " #### 7"})
    )
    source = {
        "name": "mine",
        "path": FILE,
        "columns": {"instruction": "q" + NAME, "response": "a"},
        "condition": "direct",
    }
    recipe = {
        "name": "hostile",
        "sources": [source],
        "stages": [{"kind": "length", "min_chars": 1, "on": "response"}],
        "tokenizer": {"vocab_size": 512},
        "sampling": {"epochs": 1, "context": 513},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def built(corpus: Path) -> Path:
    (corpus / "build.txt").write_bytes(run(corpus, "build", "recipe.yaml", "--workers", "1").stderr)
    run(corpus, "build", "recipe.yaml", "--workers", "1", "--set", f"stages.0.min_chars={len(HOSTILE) + 20}")
    return corpus


def ids(folder: Path) -> list[str]:
    """The id of a row that is kept, and of one that is dropped as a duplicate."""
    return [f"mine/{STEM}/{row}" for row in (0, 3)]


COMMANDS: dict[str, Callable[[Path], list[str | Path]]] = {
    "init": lambda folder: ["init", FILE, "--columns", f"instruction=q{NAME},response=a", "-o", "o.yaml", "--force"],
    "plan": lambda folder: ["plan", "recipe.yaml"],
    "check": lambda folder: ["check", "recipe.yaml"],
    "build": lambda folder: ["build", "recipe.yaml", "--workers", "1"],
    "analyze": lambda folder: ["analyze", "recipe.yaml", "--workers", "1"],
    "runs": lambda folder: ["runs"],
    "why": lambda folder: ["why", ids(folder)[0]],
    "why of a duplicate": lambda folder: ["why", ids(folder)[1]],
    "why by text": lambda folder: ["why", "--text", f"{ANSWERS[1]} {HOSTILE}"],
    "similar": lambda folder: ["similar", "latest", "--text", HOSTILE],
    "clusters": lambda folder: ["clusters", first_run(folder)],
    "diff": lambda folder: ["diff", first_run(folder), "latest", "--rows"],
    "scan": lambda folder: [
        "scan", f"{STEM}.jsonl", "-b", "gsm8k=items.jsonl", "--workers", "1",
        "--columns", f"instruction=q{NAME},response=a", "--root", ROOT + "scan",
    ],
    "verify": lambda folder: ["verify"],
    "report": lambda folder: ["report"],
    "forget": lambda folder: ["forget", "--id", ids(folder)[0]],
    "gc": lambda folder: ["gc", "--dry-run"],
    "no such row": lambda folder: ["why", HOSTILE],
    "no such recipe": lambda folder: ["build", f"{HOSTILE}.yaml"],
    "no such option": lambda folder: ["why", f"--{HOSTILE}"],
    "no such setting": lambda folder: ["build", "recipe.yaml", "--set", f"{HOSTILE}=1"],
    "no such file": lambda folder: ["scan", HOSTILE, "-b", HOSTILE],
}  # fmt: skip


def first_run(folder: Path) -> str:
    found = json.loads(run(folder, "runs", "--json").stdout)["runs"]
    return str(found[-1]["run"])


@pytest.mark.fault("rows, ids, columns and file names with escapes, C1, bidi controls or markup", "shown as escapes")
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_a_hostile_corpus_steers_what_a_command_prints(built: Path, command: str) -> None:
    done = run(built, *COMMANDS[command](built), code=None)
    assert done.returncode == (2 if command.startswith("no such") else 0), (done.stdout + done.stderr).decode()
    check_printed(command, (done.stdout + done.stderr).decode())


ALWAYS = ("init", "build", "why", "clusters", "no such row")
"""Commands that every run of the tests starts on a terminal. The others print by the same functions."""


@pytest.mark.fault("the same on a terminal, with colours and a progress bar", "shown as escapes")
@pytest.mark.parametrize(
    "command", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_nothing_of_a_hostile_corpus_steers_the_terminal(built: Path, command: str) -> None:
    sent = on_terminal(built, *COMMANDS[command](built)).decode().replace("\r\n", "\n")
    check_printed(command, OWN.sub("", sent))


def check_printed(command: str, printed: str) -> None:
    """What a command printed holds the data as escapes, and no control and no emoji of it."""
    assert not STEERING.search(printed), STEERING.findall(printed)
    assert "\U0001f480" not in printed and "Traceback" not in printed
    if command in ("why", "why of a duplicate", "clusters", "init", "no such row"):
        assert all(text in printed for text in SHOWN[:3]), printed
    if command in ("why", "init", "no such row"):
        assert "[/x]" in printed


@pytest.mark.parametrize("command", ["runs", "why", "similar", "diff", "analyze", "plan", "scan"])
def test_json_has_the_values_and_no_control(built: Path, command: str) -> None:
    done = run(built, *COMMANDS[command](built), "--json")
    assert not STEERING.search(done.stdout.decode() + done.stderr.decode())
    if command == "why":
        assert json.loads(done.stdout)["instruction"].startswith(HOSTILE.split("[bold]")[0])


def test_raw_gives_the_text_as_it_is(built: Path) -> None:
    assert HOSTILE.strip() in run(built, "why", ids(built)[0], "--raw").stdout.decode()


def test_the_report_and_the_log_of_a_build_show_controls(built: Path) -> None:
    pages = [path for path in built.rglob("report.html") if path.is_file()]
    assert pages
    for path in [*pages, built / "build.txt"]:
        assert not STEERING.search(path.read_text(encoding="utf-8")), path


ORDINARY = [
    "क्‍ष और ‌ हिन्दी",  # a joiner between Devanagari letters
    "می‌خواهم کتاب‌ها",  # non-joiners in Persian
    "family 👨‍👩‍👧‍👦, heart ❤️, flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿, key 1️⃣, 🏳️‍🌈",
    "שלום\u200f (עולם)\u200e 1",
    "ภาษา\u200bไทย",
    "Donau\xaddampf\xadschiff",
    "naïve café 你好, tab\tand\r\nlines\n",
    "葛\U000e0100城市",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text.replace(" ‌ ", r" \u200c ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay\u200bpal", r"pay\u200bpal"),
        ("a\u200db", r"a\u200db"),
        ("x\ufe0f\ufe01", r"x\ufe0f\ufe01"),
        ("😀\ufe01\ufe02\ufe03", "😀\ufe01" + r"\ufe02\ufe03"),
        ("hi\U000e0068\U000e0069", r"hi\U000e0068\U000e0069"),
        ("\ufeffid", r"\ufeffid"),
        ("ab\u3164", r"ab\u3164"),
        ("latin \u200f mark", r"latin \u200f mark"),
        ("name\udc80", r"name\udc80"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("over\rwritten", r"over\rwritten"),
    ],
)
def test_what_nobody_sees_is_shown_where_it_is_out_of_place(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(codec=None)) | st.text(st.sampled_from(HOSTILE + "".join(ORDINARY))))
def test_any_text_is_free_of_controls_and_any_json_keeps_its_value(text: str) -> None:
    assert not re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        visible(text).replace("\r\n", "\n"),
    )
    visible(text).encode()
    value = {"text": text}
    shown = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value and not STEERING.search(shown)


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((Path(__file__).parents[2] / "flows").rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_no_module_reads_markup_or_writes_to_the_terminal_by_itself() -> None:
    """Markup cannot come from data where none is ever read; stdout has one writer, and stderr is guarded."""
    writers = {
        "flows/cli/answer.py",
        "flows/cli/app.py",
        "flows/cli/start.py",
    }  # the version and the schema are constant
    for path, tree in sources():
        name = path.relative_to(Path(__file__).parents[2]).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "rich.markup", f"{name}:{node.lineno}: markup; use flows.styled"
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where = f"{name}:{node.lineno}"
            if called == "print":
                assert any(word.arg == "file" and "stderr" in ast.unparse(word.value) for word in node.keywords), where
            if called in ("typer.echo", "sys.stdout.write"):
                assert name in writers, where
            if called.endswith("rich.print"):
                assert name == "flows/console.py" and "rich_text(" in ast.unparse(node.args[0]), where
