"""How are HTML pages made? From templates with one base, `page.html.jinja`: style, navigation, charts and tables.

A page is one file that needs no network. Values are escaped wherever they stand, and the page's policy lets no script
run but the one that it was rendered with, so that a text of a row never executes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.visible import visible

if TYPE_CHECKING:
    import jinja2

TEMPLATES = "pipelines.audit"
"""The package with the templates."""


def render(template: str, values: Mapping[str, Any], script: str = "") -> str:
    """The page of a template, with these values.

    template: its path below `pipelines/audit`. script: JavaScript of the page; it must hold no value of a row.
    """
    return environment().get_template(template).render(**values, script=script, policy=policy(script))


def policy(script: str = "") -> str:
    """The Content-Security-Policy of a page with this script: nothing is loaded, and no other script runs."""
    hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    source = f"'sha256-{hash}'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {source}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return importlib.resources.files(TEMPLATES).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def environment() -> jinja2.Environment:
    """Templates below `pipelines/audit`. Values show control characters as escapes. Filters:
    `count`, `number`, `size`, `percent` and `duration`."""
    import jinja2

    loader = jinja2.FunctionLoader(asset)
    made = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=loader,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    made.filters |= {
        "visible": visible,
        "count": count,
        "number": number,
        "size": size,
        "percent": percent,
        "duration": duration,
    }
    return made


def count(value: float) -> str:
    """A whole number with separators: 1,234."""
    return f"{value:,}"


def number(value: object) -> str:
    """Any value of a table: whole numbers with separators, others with three digits, text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in the unit that fits: 1.2 MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def percent(share: float) -> str:
    """A share as a percentage: 12.3 %."""
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share >= 0.001 or share == 0 else "< 0.1 %"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 3.2 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
