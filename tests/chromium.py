"""Pages in headless Chromium, driven by Playwright: opened without network, and checked by axe-core."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DESKTOP, PHONE = 1280, 390
"""Widths of screens, in pixels."""


def open_page(browser: Browser, address: str | Path, width: int = DESKTOP, **context: object) -> Page:
    """A page in a context of its own, whose requests other than for `address` fail. Console errors are kept in
    `page.errors`. context: arguments of Playwright's `new_context`."""
    url = address.as_uri() if isinstance(address, Path) else address
    page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()  # type: ignore[arg-type]
    errors: list[str] = []
    page.errors = errors  # type: ignore[attr-defined]
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(f"dialog: {dialog.message}"), dialog.dismiss())[0])
    page.goto(url)
    return page


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and its best practices: rule, help, and the elements."""
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = {"runOnly": {"type": "tag", "values": rules}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']} ({one['help']}): {json.dumps([node['html'][:160] for node in one['nodes'][:3]])}" for one in found
    ]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
