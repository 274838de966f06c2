"""How are requests answered? Read-only pages of a root, for browsers that know the token.

The token is in the address that `winnow ui` prints. The first request sets it as a cookie and leads to the address
without it, so that it stays in no history and no referrer. Only GET and HEAD are answered. No page loads anything, and
no script runs but the search of a report that this version of Winnow wrote: texts of rows never execute.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.ui import search as searching
from flows.ui.views import Views, require
from pipelines.audit import page
from pipelines.errors import Damaged, RunError, WinnowError, nearest
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.runs import FAILED, REPORT

POLICY = (
    "default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'self'"
)
"""The Content-Security-Policy of the pages: no script, no request, and forms that lead to this server alone."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

MAX_QUERY = 2000
"""Characters of a text that is searched."""


def make_app(root: str, token: str, hosts: tuple[str, ...], cookie: str) -> ASGIApp:
    """The pages of a root.

    token: that a browser has to know. hosts: names that requests may give to this server, so that a page of another
    name cannot read a loopback address; empty for any. cookie: its name. Browsers send the cookies of one port to all
    ports of a host, so each server has a name of its own.
    """
    views = Views(root)
    routes = [
        Route(path, endpoint)
        for path, endpoint in {
            "/": lambda request: _page("runs.html.jinja", views.runs(), root),
            "/runs": lambda request: RedirectResponse("/"),
            "/runs/{run}": lambda request: _page("run.html.jinja", views.run(request.path_params["run"]), root),
            "/runs/{run}/report.html": lambda request: _report(root, request.path_params["run"]),
            "/steps/{folder}/{file:path}": lambda request: _file(root, **request.path_params),
            "/runs/{run}/row": lambda request: _row(views, request),
            "/runs/{run}/kept": lambda request: _rows(views, request, None),
            "/runs/{run}/dropped": lambda request: _rows(views, request, request.query_params.get("step", "")),
            "/runs/{run}/clusters": lambda request: _page(
                "clusters.html.jinja", views.clusters(request.path_params["run"]), root
            ),
            "/search": lambda request: _search(views, request),
            "/compare": lambda request: _compare(views, request),
            "/scores": lambda request: _page("scores.html.jinja", views.scores(), root),
        }.items()
    ]
    handlers: Mapping[Any, Any] = {
        HTTPException: lambda request, error: _message(root, error.status_code, str(error.detail)),
        RunError: lambda request, error: _message(root, 500 if isinstance(error, Damaged) else 404, str(error)),
        WinnowError: lambda request, error: _message(root, 400, str(error)),
        RuntimeError: lambda request, error: _message(root, 500, str(error)),
        OSError: lambda request, error: _message(root, 500, str(error)),
        Exception: lambda request, error: _message(
            root,
            500,
            f"{type(error).__name__}: {error}; the root may be damaged or of another version: `winnow verify`",
        ),
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), root, token, hosts, cookie)


class Guard:
    """Lets requests through that know the token and name this server; adds the headers of every answer."""

    def __init__(self, app: ASGIApp, root: str, token: str, hosts: tuple[str, ...], cookie: str) -> None:
        self._app, self._root, self._token, self._hosts, self._cookie = app, root, token, hosts, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in extra.items()
                        if name.lower().encode() not in known
                    ),
                ]
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that is not let through; None for the others."""
        if self._hosts and urlsplit(f"//{request.headers.get('host', '')}").hostname not in self._hosts:
            return _message(self._root, 403, "this server is not known under that name", known=False)
        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            url = URL(scope=request.scope).remove_query_params("token")
            answer = RedirectResponse(f"{url.path}?{url.query}" if url.query else url.path, 303)
            answer.set_cookie(self._cookie, self._token, max_age=30 * 86400, httponly=True, samesite="lax")
            return answer
        if given is None and self._is_token(request.cookies.get(self._cookie, "")):
            return None
        text = "open the address with the token that `winnow ui` printed; this browser then keeps it"
        return _message(self._root, 401, text, known=False)

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self._token.encode())


def url(path: str, **query: object) -> str:
    """An address of this server. path: not quoted yet. query: values that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return quote(path) + (f"?{urlencode(given)}" if given else "")


def _page(template: str, values: Mapping[str, Any], root: str, status: int = 200) -> HTMLResponse:
    made = (
        _environment()
        .get_template(template)
        .render({"root": root, "policy": POLICY, "script": "", "url": url, "query": "", **values})
    )
    return HTMLResponse(made, status)


def _environment() -> Any:
    """The templates of `flows/ui/templates`, over those of `pipelines/audit`."""
    global _templates
    if _templates is None:
        import importlib.resources

        import jinja2

        own = importlib.resources.files("flows.ui").joinpath("templates")

        def load(name: str) -> str | None:
            file = own.joinpath(name)
            return file.read_text(encoding="utf-8") if file.is_file() else None

        base = page.environment()
        assert base.loader is not None
        _templates = base.overlay(loader=jinja2.ChoiceLoader([jinja2.FunctionLoader(load), base.loader]))
        _templates.filters |= {"excerpt": searching.excerpt, "evidence": searching.evidence_text}
    return _templates


_templates: Any = None


def _message(root: str, status: int, text: str, known: bool = True) -> HTMLResponse:
    """A page with a message. known: whether the reader may see the root's path and the navigation."""
    titles = {401: "Not let in", 403: "Not let in", 404: "Not found", 405: "Read-only"}
    values = {"title": titles.get(status, "Not possible"), "message": text, "known": known}
    return _page("message.html.jinja", values, root if known else "", status)


def _report(root: str, run: str) -> Response:
    """A report as it was written. It is opened by name alone, so that it can be read where manifests are damaged."""
    folders = {name: folder for folder in (FAILED, "runs") for name in storage.folders(storage.join(root, folder))}
    path = storage.join(root, folders.get(run, ""), run, REPORT)
    if run not in folders:
        raise RunError(f"{run}: no such run in {root}; {nearest(run, folders) if folders else 'it has none'}")
    if not storage.exists(path):
        raise RunError(f"{run}: it has no report; `winnow report {run}` writes it")
    policy = f"{page.policy(page.asset('report/search.js'))}; frame-ancestors 'none'"
    return HTMLResponse(storage.read_bytes(path), headers={"Content-Security-Policy": policy})


def _file(root: str, folder: str, file: str) -> Response:
    """A file of a step, to be saved: reports link to those with dropped rows. Only files that a manifest names."""
    step = manifests.load(root, folder) if folder in storage.folders(storage.join(root, "steps")) else None
    path = storage.join(root, "steps", folder, file)
    if step is None or path not in {one.path for one in step.all_files}:
        raise RunError(f"steps/{folder}/{file}: no step of this root has such a file")
    name = quote(file.rpartition("/")[2])
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    if storage.is_local(path):
        return FileResponse(path, headers=headers, media_type="application/octet-stream")
    return Response(storage.read_bytes(path), headers=headers, media_type="application/octet-stream")


def _row(views: Views, request: Request) -> Response:
    id = require(request.query_params.get("id", ""), "id")
    return _page("row.html.jinja", views.row(request.path_params["run"], id), views.root)


def _rows(views: Views, request: Request, step: str | None) -> Response:
    run = views.open(request.path_params["run"])
    text = request.query_params.get("page", "1")
    number = max(1, int(text)) if text.isdecimal() and len(text) < 10 else 1
    reason = request.query_params.get("reason", "")
    if step is None:
        rows, title, path = searching.kept_rows(run, number), f"Rows kept by {run.id}", f"/runs/{run.id}/kept"
        query: dict[str, Any] = {}
    else:
        rows = searching.dropped_rows(run, step, reason, number)
        title, path = f"Dropped by {step}: {reason}", f"/runs/{run.id}/dropped"
        query = {"step": step, "reason": reason}
    pages = max(1, -(-rows.total // searching.PAGE))
    return _page(
        "rows.html.jinja",
        {"title": title, "run": run.id, "rows": rows, "page": number, "pages": pages, "path": path, "list": query},
        views.root,
    )


def _search(views: Views, request: Request) -> Response:
    text = require(request.query_params.get("q", ""), "the text to search for")
    if len(text) > MAX_QUERY:
        raise WinnowError(f"a text of at most {MAX_QUERY:,} characters can be searched for; this has {len(text):,}")
    run = views.open(request.query_params.get("run") or "latest")
    start = request.query_params.get("start", "0")
    first = int(start) if start.isdecimal() and len(start) < 9 else 0
    if not first and views.has_row(run, text):
        return RedirectResponse(url(f"/runs/{run.id}/row", id=text))
    found = searching.search(run, text, first)
    choices = views.runs()["choices"]
    return _page(
        "search.html.jinja",
        {"title": "Search", "run": run.id, "query": text, "found": found, "start": first, "choices": choices},
        views.root,
    )


def _compare(views: Views, request: Request) -> Response:
    left, right = (require(request.query_params.get(name, ""), name) for name in ("left", "right"))
    return _page("compare.html.jinja", views.compare(left, right), views.root)
