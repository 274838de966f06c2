"""How does the server start and end? The address is bound first, then the model is loaded, then requests are answered.

On a signal (flows/cli/supervise.py) it accepts no more connections, gives running requests `DRAIN_SECONDS`, and ends.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError

KEY_VARIABLE = "WINNOW_API_KEY"
"""The environment variable of the key that clients must send."""

DRAIN_SECONDS = 1
"""Time for running requests once the server is stopped. The process that watches the command waits a little longer."""

BACKLOG = 512


class ServeAnswer(BaseModel):
    """A server that has started. `winnow serve --json` prints it.

    url: base URL for clients. model: the name that requests give. cache_bytes: of the keys and values of all slots.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    model: str
    checkpoint: str
    device: str
    precision: str
    context: int
    max_tokens: int | None
    slots: int
    max_queue: int
    cache_bytes: int
    condition: str
    key: bool


def read_key(path: str | None) -> str | None:
    """The key in a file, or in the environment; None if neither is given.

    Raises:
        WinnowError: if the file cannot be read or is empty.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WinnowError(f"--api-key-file {path}: cannot be read ({error})") from None
    if not key:
        raise WinnowError(f"--api-key-file {path}: is empty; write the key on one line")
    return key


def check_address(host: str, bound: socket.socket, key: str | None) -> None:
    """Raises: WinnowError: if other machines could connect, and no key is asked for."""
    if key is None and not ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback:
        raise WinnowError(
            f"--host {host}: other machines could connect; set a key with --api-key-file or {KEY_VARIABLE}, "
            "or serve on 127.0.0.1"
        )


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet.

    Raises:
        WinnowError: if the address is unknown or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise WinnowError(f"--host {host} --port {port}: {reason}; choose another") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """The base URL for clients."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def run(app: object, bound: socket.socket) -> None:
    """Answer the requests to a listening socket until a signal comes."""
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with interrupting(server):
        server.run(sockets=[bound])


@contextlib.contextmanager
def interrupting(server: object) -> Iterator[None]:
    """End the server, instead of the process, on the signal of the process that watches this command."""
    from flows.cli.supervise import INTERRUPT

    def stop(_signum: int, _frame: FrameType | None) -> None:
        server.should_exit = True  # type: ignore[attr-defined]

    before = signal.signal(INTERRUPT, stop)
    try:
        yield
    finally:
        signal.signal(INTERRUPT, before)


def serve(
    checkpoint: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    precision: str = "fp32",
    slots: int = 16,
    max_queue: int = 64,
    max_tokens: int | None = None,
    condition: str = "direct",
    model_name: str | None = None,
    key: str | None = None,
    on_start: object = None,
) -> None:
    """Serve a checkpoint until a signal comes.

    checkpoint: a folder of a checkpoint, a training or a transformers model. slots: sequences generated together.
    max_queue: sequences that may wait. max_tokens: the most that a request may ask for, None for any. condition: of
    requests that name none. key: that clients must send. on_start: called with a ServeAnswer when the server answers.

    Raises: WinnowError: if the address cannot be used, or the folder holds no model.
    """
    with contextlib.closing(bind(host, port)) as bound:
        check_address(host, bound, key)
        from flows.serving.api import Served, make_app
        from flows.serving.engine import Engine
        from training.inference.checkpoint_model import model_identity
        from training.inference.generate import load_text_generator

        generator = load_text_generator(checkpoint, device=device, precision=precision)  # type: ignore[arg-type]
        folder = str(generator.folder)
        generator.prompt(condition, "")  # refuses an unknown condition
        name = model_name or default_name(folder)
        engine = Engine(generator, slots, max_queue)
        fingerprint = f"winnow-{model_identity(folder)[:12]}"
        app = make_app(Served(name, engine, fingerprint, int(time.time()), max_tokens, condition, key))
        bound.listen(BACKLOG)  # who connects from now on is answered
        if callable(on_start):
            on_start(
                ServeAnswer(
                    url=url_of(bound),
                    model=name,
                    checkpoint=folder,
                    device=str(generator.runner.device),
                    precision=precision,
                    context=generator.context,
                    max_tokens=max_tokens,
                    slots=slots,
                    max_queue=max_queue,
                    cache_bytes=engine.cache_bytes,
                    condition=condition,
                    key=key is not None,
                )
            )
        try:
            run(app, bound)
            if engine.unfinished:
                print(f"stopped with {engine.unfinished} answers unfinished", file=sys.stderr)
        finally:
            engine.close()


def default_name(folder: str) -> str:
    """The name of the model: the folder's last part, or the last two for a checkpoint of a training."""
    parts = folder.rstrip("/").split("/")
    return "/".join(parts[-2:] if parts[-1].startswith("step-") else parts[-1:])
