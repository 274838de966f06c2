"""Which command shows a root in a browser? ui."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root


def ui(
    root: Root = ROOT,
    host: Annotated[str, typer.Option(help="The address to listen on. Others than loopback see all rows.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one, which is printed.")] = 4280,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="WINNOW_UI_TOKEN",
            help="What browsers have to know, at least 16 letters, digits, `-` and `_`. Default: a new one, printed.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a root in a browser, until Ctrl-C: runs, also failed ones; what changed between two; every row and its fate;
    duplicates; scores. Nothing is written below the root.

    Open the address that is printed: it has the token. The browser keeps it, so that the links of Prefect's run pages
    open too. With another address than the default one, set WINNOW_UI_URL where flows run, for these links.

    Example: `winnow ui --root winnow-data`
    """

    from flows.execute import absolute
    from flows.ui.server import serve

    root = absolute(root)

    def started(address: str) -> None:
        print_answer({"url": address, "root": root}, [f"{address}  {root}"], as_json)

    serve(root, host, port, token, started)
