"""`winnow ui` shows a root to a browser that has its token, writes nothing, and executes no text of a row."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from flows.build import build
from flows.ui.address import report_url
from pipelines.ledger.runs import open_run
from tests.chromium import DESKTOP, PHONE, open_page, overflow, violations

WINNOW = Path(sys.executable).parent / "winnow"
EXECUTED = "document.title='executed'"
HOSTILE = [
    f"<script>{EXECUTED}</script>",
    f"<img src=x onerror={EXECUTED}>",
    f"</pre></p></code></title></style></script><script>{EXECUTED}</script>",
    f'"\'><svg onload={EXECUTED}><a href="javascript:{EXECUTED}">here</a>',
    f"{{{{ 7 * 7 }}}}{{% raw %}}<iframe srcdoc='<script>parent.{EXECUTED}</script>'></iframe>",
    f"\u202e\u2066<meta http-equiv=refresh content='0;url=javascript:{EXECUTED}'><base href=//x.example>",
    "<form action=//x.example><button formaction=//x.example autofocus>Search</button></form>&lt;script&gt;",
]
FILE = f"a <img src=x onerror={EXECUTED}> 'b' & c?d#e.jsonl"
RECIPE = """
name: hostile
sources:
  - {name: mine, path: "rows/*", columns: {instruction: q, response: a}, condition: direct}
  - {name: sums, adapter: generated_arithmetic, rows: 60}
stages: [{kind: urls}, {kind: length, max_chars: 2000}]
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 257}
"""


class Served(NamedTuple):
    """A root that is served. url: with the token. runs: before and after a change. failed: a run that failed."""

    root: Path
    url: str
    runs: tuple[str, str]
    failed: str

    @property
    def base(self) -> str:
        return self.url.partition("/?")[0]

    @property
    def token(self) -> str:
        return self.url.partition("token=")[2]

    def pages(self) -> dict[str, str]:
        """Name -> address of a page of every kind."""
        before, after = self.runs
        id = quote(f"mine/{Path(FILE).stem}/1")
        return {
            "runs": "/",
            "run": f"/runs/{after}",
            "failed run": f"/runs/{self.failed}",
            "rows kept": f"/runs/{after}/kept",
            "rows dropped": f"/runs/{after}/dropped?step=refine&reason=length/too_long",
            "row": f"/runs/{after}/row?id={id}",
            "duplicate": f"/runs/{after}/row?id={quote(f'mine/{Path(FILE).stem}/{len(HOSTILE)}')}",
            "duplicates": f"/runs/{after}/clusters",
            "comparison": f"/compare?left={before}&right={after}",
            "search": f"/search?run={after}&q={quote(HOSTILE[1])}",
            "nothing found": f"/search?run={after}&q={quote('<script>no row has this</script>')}",
            "scores": "/scores",
            "not found": f"/runs/{quote(HOSTILE[1], safe='')}",
        }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "rows").mkdir()
    rows = [
        {"q": f"What does {text} mean? {text}", "a": f"It is {text}, number {n}."} for n, text in enumerate(HOSTILE)
    ]
    rows += [rows[0], {"q": f"{HOSTILE[0]} {HOSTILE[1]}" * 40, "a": "long"}]
    (folder / "rows" / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "hostile.yaml").write_text(RECIPE + f"# {HOSTILE[0]}\n", encoding="utf-8")
    root = folder / "root"
    answers = [
        build(str(folder / "hostile.yaml"), str(root), "local", 1, settings)
        for settings in (("stages.length.max_chars=9000",), ())
    ]
    with contextlib.suppress(RuntimeError):
        build(str(folder / "hostile.yaml"), str(root), "local", 1, ("stages.length.max_chars=3",))
    (failed,) = (path.name for path in (root / "failed").iterdir())
    (root / "report.html").write_text("secret", encoding="utf-8")
    with serve(root) as url:
        yield Served(root, url, (answers[0].run, answers[1].run), failed)


@contextlib.contextmanager
def serve(root: Path, *words: str) -> Iterator[str]:
    """The address of `winnow ui` on a free port."""
    command = [WINNOW, "ui", "--root", root, "--port", "0", "--json", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 143


def get(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of the answer to a request."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=60)
    ) as connection:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return (
            reply.status,
            {name.lower(): value for name, value in reply.getheaders()},
            reply.read().decode(errors="replace"),
        )


def files(root: Path) -> dict[str, int]:
    """Path -> time of the last change, of all files."""
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.fixture(scope="module")
def cookie(served: Served) -> str:
    """The cookie of a browser that has opened the address with the token."""
    status, headers, _ = get(served, f"/?token={served.token}")
    assert status == 303 and headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=lax" in headers["set-cookie"]
    return headers["set-cookie"].partition(";")[0]


@pytest.fixture
def page(browser: Browser, served: Served) -> Page:
    return open_page(browser, served.url)


# ---- in a browser


def test_no_text_executes_and_nothing_else_is_loaded_on_any_page(page: Page, served: Served) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for name, path in served.pages().items():
        page.goto(served.base + path)
        assert page.title().endswith(" · Winnow"), name  # a script that ran would have set another one
        assert (
            page.evaluate("document.querySelectorAll('script, img, iframe, object, [onload], [onerror]').length") == 0
        )
        assert (
            page.evaluate("document.querySelectorAll('base, meta[http-equiv=refresh], a[href^=javascript]').length")
            == 0
        )
        forms = page.locator("form").evaluate_all("forms => forms.map(form => new URL(form.action).origin)")
        assert set(forms) <= {served.base}
    assert {url for url in requests if not url.startswith(served.base)} == set()
    errors = [error for error in page.errors if "404" not in error]  # type: ignore[attr-defined]
    assert errors == []


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_every_page_is_accessible_and_does_not_overflow(browser: Browser, served: Served, width: int) -> None:
    page = open_page(browser, served.url, width, color_scheme="dark" if width == PHONE else "light")
    for name, path in served.pages().items():
        page.goto(served.base + path)
        assert overflow(page) <= 0, name
        if width == DESKTOP or name in ("runs", "comparison", "row"):
            assert violations(page) == [], name


def test_a_reader_finds_a_row_by_a_part_of_its_text_and_sees_why_it_is_gone(page: Page, served: Served) -> None:
    page.get_by_label("Id of a row").fill("ONERROR=document")
    page.get_by_role("button", name="Search").click()
    assert page.locator("mark").first.inner_text() == f"onerror={EXECUTED}"[:16]
    page.get_by_role("link", name=f"mine/{Path(FILE).stem}/{len(HOSTILE) + 1}").click()
    assert "Dropped by refine" in page.locator("main").inner_text()
    assert "length/too_long" in page.locator("main").inner_text()


def test_a_reader_compares_two_runs_and_opens_a_row_that_was_dropped(page: Page, served: Served) -> None:
    page.get_by_role("button", name="Compare").click()
    assert "stages.length.max_chars" in page.locator("main").inner_text()
    page.locator("td a", has_text=f"/{len(HOSTILE) + 1}").first.click()
    assert "Kept" in page.locator("main").inner_text()  # it is shown in the run that kept it


def test_a_reader_sees_a_failed_run_with_its_error_and_its_report(page: Page, served: Served) -> None:
    page.get_by_role("link", name=served.failed).first.click()
    assert "This run did not finish" in page.locator("main").inner_text()
    page.get_by_role("link", name="Report").click()
    assert "no row is left" in page.locator("body").inner_text() and page.title() != "executed"


def test_the_search_of_a_report_runs_and_its_files_can_be_saved(page: Page, served: Served, cookie: str) -> None:
    page.goto(f"{served.base}/runs/{served.runs[1]}/report.html")
    page.wait_for_selector("#results .row")
    assert page.errors == [] and page.title() != "executed"  # type: ignore[attr-defined]
    run = open_run(str(served.root), served.runs[1])
    file = next(file for step in run.steps for file in step.dropped)
    below = file.path.removeprefix(str(served.root))
    status, headers, _ = get(served, below, cookie=cookie)
    assert status == 200 and headers["content-disposition"].startswith("attachment")
    for path in (
        below.replace(".parquet", ""),
        f"{below.rpartition('/dropped')[0]}/manifest.json",
        "/steps/../report.html",
    ):
        assert get(served, path, cookie=cookie)[0] == 404


def test_a_row_is_found_by_its_id(page: Page, served: Served) -> None:
    page.get_by_label("Id of a row").fill("sums/generated/7")
    page.get_by_role("button", name="Search").click()
    assert page.locator("h1").inner_text() == "sums/generated/7" and "What each step did" in page.content()


# ---- over HTTP


def test_without_the_token_nothing_is_shown(served: Served) -> None:
    for path in (*served.pages().values(), "/?token=", "/?token=wrong", f"/?token={served.token}x"):
        status, headers, text = get(served, path)
        assert status == 401 and str(served.root) not in text and "hostile-" not in text
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'none'")
    assert get(served, "/", cookie="winnow-ui-1=wrong")[0] == 401


def test_the_link_of_prefects_run_page_opens_the_report(
    served: Served, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_UI_URL", f"{served.base}/")
    link = report_url(served.runs[1])
    assert link == f"{served.base}/runs/{served.runs[1]}/report.html"
    status, _, text = get(served, link.removeprefix(served.base), cookie=cookie)
    assert status == 200 and text == (served.root / "runs" / served.runs[1] / "report.html").read_text(encoding="utf-8")
    monkeypatch.setenv("WINNOW_UI_URL", served.url)
    link = report_url(served.runs[1])
    status, headers, _ = get(served, link.removeprefix(served.base))
    assert (status, headers["location"]) == (303, f"/runs/{served.runs[1]}/report.html")
    monkeypatch.delenv("WINNOW_UI_URL")
    assert report_url("a b") == "http://127.0.0.1:4280/runs/a%20b/report.html"


def test_nothing_else_below_the_root_is_served_and_nothing_is_written(served: Served, cookie: str) -> None:
    before = files(served.root)
    run = served.runs[0]
    paths = [
        f"/runs/{run}/run.json",
        "/runs/../report.html",
        "/runs/%2e%2e/report.html",
        "/runs/none/report.html",
        "/x",
    ]
    assert [get(served, path, cookie=cookie)[0] for path in paths] == [404] * len(paths)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert get(served, "/", method, cookie=cookie)[0] == 405
    for path in served.pages().values():
        get(served, path, cookie=cookie)
    assert files(served.root) == before


def test_a_page_of_another_name_cannot_read_anything(served: Served, cookie: str) -> None:
    assert get(served, "/", cookie=cookie, host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/runs/{run}/row?id=sums/generated/999", 404, "no such row"),
        ("/runs/{run}/row", 404, "nothing was given"),
        ("/runs/{run}/dropped?step=refin&reason=x", 404, "did you mean"),
        ("/runs/{run}/dropped?step=refine&reason=length/too_short", 404, "dropped no row"),
        ("/runs/{run}/kept?page=99999999999999999999", 200, "Page 1 of"),
        ("/search?q=" + 2001 * "a", 400, "at most 2,000"),
        ("/search?q=x&run={run}&start=9999", 200, "No row has it"),
        ("/compare?left={run}&right=other", 404, "no such run"),
        ("/compare?left={run}", 404, "nothing was given"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_so(
    served: Served, cookie: str, path: str, status: int, text: str
) -> None:
    found = get(served, path.replace("{run}", served.runs[1]), cookie=cookie)
    assert found[0] == status and text in found[2], found[2]


@pytest.mark.fault("a damaged ledger, in the UI", "the page names it")
def test_a_damaged_ledger_is_named(served: Served, cookie: str) -> None:
    run = open_run(str(served.root), served.runs[0])
    for path in (Path(run.folder) / "run.json", served.root / "steps" / run.steps[1].folder / "manifest.json"):
        data = path.read_bytes()
        try:
            path.write_bytes(data[: len(data) // 2])
            status, _, text = get(served, f"/runs/{run.id}", cookie=cookie)
            assert status == 500 and path.name in text and "Traceback" not in text
        finally:
            path.write_bytes(data)


def test_a_port_in_use_and_a_short_token_are_mistakes(served: Served, tmp_path: Path) -> None:
    port = str(urlsplit(served.url).port)
    for words, message in ((["--port", port], "choose another"), (["--token", "short"], "16 to 200")):
        done = subprocess.run([WINNOW, "ui", "--root", tmp_path, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and message in done.stderr


def test_a_root_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    with serve(tmp_path, "--token", "0123456789abcdef") as url:
        empty = Served(tmp_path, url, ("", ""), "")
        assert empty.token == "0123456789abcdef"
        _, headers, _ = get(empty, f"/?token={empty.token}")
        status, _, text = get(empty, "/", cookie=headers["set-cookie"].partition(";")[0])
        assert status == 200 and "No run is recorded here" in text
