"""Expressions are compared by math-verify and SymPy in a child process that can be killed.

An answer of a model may be an expression that takes SymPy hours, all memory or the interpreter's stack. The child has a
limit on memory, and on CPU time for each comparison. It is killed when it exceeds one, and started again for the next
comparison. A comparison that fails in a child that has done others is repeated in a new one, so its result does not
depend on what was compared before. CPU time, not elapsed time, is limited: a busy machine gives the same results.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple

from pipelines.errors import WinnowError

CPU_SECONDS = 5.0
"""Of one comparison. Nearly all take less than 0.1 s."""
WALL_SECONDS = 120.0
"""After which a child that uses no CPU time is killed too."""
MEMORY_BYTES = 4 << 30
"""Address space of the child."""

LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy")
"""The distributions that a comparison depends on."""


class Comparison(NamedTuple):
    """A question to the child.

    rule: `published` is `math_verify.verify` of the two parsed texts; `strict` is `strict.same` of two final answers.
    """

    rule: Literal["published", "strict"]
    gold: str
    answer: str


def require_math_verify() -> None:
    """Check that math-verify is installed. Raises: WinnowError: if it is not, naming the extra."""
    for name in LIBRARIES:
        try:
            version(name)
        except PackageNotFoundError as error:
            raise WinnowError(
                f'scoring mathematics needs {name}, which is not installed: pip install "winnow-corpus[eval]"'
            ) from error


def compare(comparisons: Sequence[Comparison]) -> list[bool]:
    """Compare expressions, in order. A comparison that exceeds the limits is false.

    Raises: WinnowError: if math-verify is not installed.
    """
    require_math_verify()
    results: dict[Comparison, bool] = {}
    with _LOCK:
        for comparison in comparisons:
            if comparison not in results:
                results[comparison] = _WORKER.compare(comparison)
    return [results[comparison] for comparison in comparisons]


class _Worker:
    """The child and its pipes. It is started when it is needed, and ends with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def compare(self, comparison: Comparison) -> bool:
        is_new = self._process is None or self._owner != os.getpid()
        result = self._ask(comparison)
        if result is None and not is_new:
            result = self._ask(comparison)
        return bool(result)

    def _ask(self, comparison: Comparison) -> bool | None:
        """The child's answer; None if it had to be killed, or died."""
        if self._process is None or self._owner != os.getpid():  # a forked process starts its own
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(comparison).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], WALL_SECONDS)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if not line:
            self.stop()
            return None
        return line == _RIGHT

    def _start(self) -> None:
        # The child finds the same modules as this process, wherever that was started.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from training.evaluation import math_worker\n"
            f"math_worker.serve({CPU_SECONDS})"
        )
        with tempfile.TemporaryFile() as errors:
            self._process = process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
            self._owner = os.getpid()
            assert process.stdout is not None
            if process.stdout.readline() != _READY:
                self.stop()
                errors.seek(0)
                reason = errors.read().decode(errors="replace").strip().split("\n")[-1]
                raise WinnowError(f"the process that compares mathematics does not start: {reason}")

    def stop(self) -> None:
        """End the child."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None


_READY, _RIGHT, _WRONG = b"ready\n", b"true\n", b"false\n"
_WORKER = _Worker()
_LOCK = threading.Lock()
atexit.register(_WORKER.stop)


def serve(cpu_seconds: float) -> None:
    """The child: read comparisons from stdin, one JSON line each, and write `true` or `false` to stdout."""
    import logging
    import resource
    import signal

    # The kernel's default action for SIGPROF ends the process, whatever it computes.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    _load()
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        comparison = Comparison(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            result = _RULES[comparison.rule](comparison.gold, comparison.answer)
        except MemoryError:
            os._exit(1)
        except Exception:  # SymPy and its parser raise many kinds, for what is no mathematics
            result = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(_RIGHT if result else _WRONG)
        sys.stdout.buffer.flush()


def _load() -> None:
    """Import what the comparisons need, and compile its tables, outside of their limit."""
    equal("x^2 + \\frac{1}{2}", "\\frac{1}{2} + x^2")
    _published("\\frac{1}{2}", "so $x = 0.5$")


def equal(gold: str, answer: str) -> bool:
    """Are two LaTeX expressions equal? A decimal is equal to an expression if 12 decimals are."""
    from math_verify import verify

    parsed = _parse(gold), _parse(answer)
    return bool(verify(*parsed, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None))


def _parse(latex: str):  # type: ignore[no-untyped-def]
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, normalize_latex
    from math_verify.grader import should_treat_as_complex

    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    text = normalize_latex(latex, config=config)
    return latex2sympy(
        text, is_real=not should_treat_as_complex(text), convert_degrees=False, normalization_config=None
    )


def _published(gold: str, answer: str) -> bool:
    from math_verify import parse, verify

    parsed = (parse(text, parsing_timeout=None) for text in (gold, answer))
    return bool(verify(*parsed, timeout_seconds=None))


def _strict(gold: str, answer: str) -> bool:
    from training.evaluation import strict

    return strict.same(gold, answer, equal)


_RULES = {"published": _published, "strict": _strict}
