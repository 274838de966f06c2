"""Which command shows reports in a browser? ui."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root


def ui(
    root: Root = ROOT,
    host: Annotated[str, typer.Option(help="The address to listen on. Others than loopback see all reports.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one, which is printed.")] = 4280,
    as_json: Json = False,
) -> None:
    """Serve the reports of a root to a browser, until Ctrl-C. Prefect's run pages link to them.

    With another address than the default one, set WINNOW_UI_URL where flows run, for the links.

    Example: `winnow ui --root winnow-data`
    """
    from rich.markup import escape

    from flows.execute import absolute
    from flows.ui import make_server

    root = absolute(root)
    with make_server(root, host, port) as server:
        address = f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
        print_answer({"url": address, "root": root}, [f"{address}  reports of {escape(root)}"], as_json)
        server.serve_forever()
