"""How does `winnow ui` start? With an address that has a token, on loopback by default."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable

from flows.serving.server import BACKLOG, bind, run
from pipelines.errors import WinnowError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TOKEN = re.compile(r"[A-Za-z0-9_\-]{16,200}")


def serve(root: str, host: str, port: int, token: str | None, on_start: Callable[[str], None]) -> None:
    """Show a root until a signal comes.

    root: absolute path or URL. port: 0 for a free one. token: that browsers have to know; None for a new one. on_start:
    called with the address, which has the token, when the server answers.

    Raises: WinnowError: if the address cannot be used, or the token is too short.
    """
    if token is not None and not _TOKEN.fullmatch(token):
        raise WinnowError("--token: 16 to 200 letters, digits, `-` and `_`; without it, a new one is made")
    token = token or secrets.token_urlsafe(24)
    with contextlib.closing(bind(host, port)) as bound:
        from flows.ui.app import make_app

        port = bound.getsockname()[1]
        hosts = (*LOOPBACK, host) if host in LOOPBACK else ()
        app = make_app(root, token, hosts, f"winnow-ui-{port}")
        bound.listen(BACKLOG)
        on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}")
        run(app, bound)
