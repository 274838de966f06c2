"""Where does the browser find the pages of a root? The address of a report, for links on the run page of Prefect."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit, urlunsplit

PORT = 4280
"""The default port of `winnow ui`."""

URL_VARIABLE = "WINNOW_UI_URL"
"""The environment variable of the address at which browsers reach `winnow ui`."""


def report_url(run: str) -> str:
    """The address of a run's report: below WINNOW_UI_URL, by default that of `winnow ui` on this machine.

    It has no token. A browser that has opened the address that `winnow ui` printed is let in by its cookie. If
    WINNOW_UI_URL has a token (`http://host:4280/?token=...`), so has this address.
    """
    base = urlsplit(os.environ.get(URL_VARIABLE) or f"http://127.0.0.1:{PORT}")
    path = f"{base.path.rstrip('/')}/runs/{quote(run)}/report.html"
    return urlunsplit((base.scheme, base.netloc, path, base.query, ""))
