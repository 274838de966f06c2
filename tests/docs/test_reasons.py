"""Every reason for which a row is dropped has a meaning in `pipelines.audit.reasons` and an entry in docs/reasons.md.

The reasons are read from the code: from what stages declare, and from the places of the source where a reason is given.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from filters.describe import entries
from pipelines.audit.reasons import REASONS, meaning

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
FOLDERS = ("filters", "pipelines/formats", "pipelines/sources", "pipelines/steps", "pipelines/records.py")
CONSTANTS = {
    "filters.contamination.rules": ("CLASSES", "contamination"),
    "pipelines.ledger.tombstones": ("REASON", "forgotten"),
    "pipelines.steps.sampling": ("FAULTS", "pack"),
    "pipelines.steps.duplicates.removal": ("SAME_WORDS", "near_duplicate"),
}
"""Module -> the constant that lists reasons, and their stage."""

KNOWN = {reason.removeprefix("<score>") for reasons in REASONS.values() for reason in reasons}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        path = ROOT / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def texts(node: ast.AST, constants: dict[str, list[str]]) -> Iterator[str]:
    """The texts that an expression may have: not those that it compares, calls or looks up with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name):
        yield from constants.get(node.id, [])
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body, constants), *texts(node.orelse, constants))
    elif isinstance(node, ast.Tuple | ast.List):
        yield from (text for element in node.elts for text in texts(element, constants))
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "<>" for part in node.values]
        yield "".join(map(str, parts)).removeprefix("<>")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("lit", "then"):
        yield from (text for argument in node.args for text in texts(argument, constants))
        yield from texts(node.func.value, constants)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "when":
        yield from texts(node.func.value, constants)


def given(tree: ast.Module) -> Iterator[str]:
    """The reasons that a module gives: checks, marks, rules of sources, and faults of rows."""
    constants: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            for target, value in zip(node.targets[0].elts, node.value.elts, strict=False):
                if isinstance(target, ast.Name) and target.id.isupper():
                    constants[target.id] = list(texts(value, {}))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in ("Check", "_occurs", "Fault"):
                yield from texts(node.args[0], constants)
            elif name == "mark" and len(node.args) > 2:
                yield from texts(node.args[2], constants)
            elif name in ("case_when", "remove_duplicates"):
                yield from (text for argument in node.args for text in texts(argument, constants))
            elif name == "exclude":
                yield from (
                    text for rule in node.args[1:] if isinstance(rule, ast.Tuple) for text in texts(rule.elts[0], {})
                )
            elif name == "append" and isinstance(node.func, ast.Attribute) and "fault" in ast.dump(node.func.value):
                yield from texts(node.args[0], constants)
            yield from (
                text for keyword in node.keywords if keyword.arg == "fault" for text in texts(keyword.value, constants)
            )
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = (
                    list(zip(target.elts, node.value.elts, strict=False))
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                    else [(target, node.value)]
                )
                for one, value in pairs:
                    named = one.id if isinstance(one, ast.Name) else ""
                    slot = one.slice if isinstance(one, ast.Subscript) else None
                    is_fault = isinstance(slot, ast.Constant) and slot.value == "fault"
                    if is_fault or re.fullmatch(r"faults?|reasons?", named):
                        yield from texts(value, constants)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "fault":
                    yield from texts(value, constants)
        elif isinstance(node, ast.Yield):
            values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            for pair in values:  # a row that could not be read, and its fault
                if isinstance(pair, ast.Tuple) and ast.dump(pair.elts[0]) == "Constant(value=None)":
                    yield from texts(pair.elts[1], constants)


def declared() -> set[tuple[str, str]]:
    """Stage and reason of what stages declare and constants list."""
    found = {(entry.kind, reason) for entry in entries() if entry.package == "winnow" for reason in entry.reasons}
    for module, (name, stage) in CONSTANTS.items():
        value = getattr(importlib.import_module(module), name)
        found |= {(stage, reason) for reason in ((value,) if isinstance(value, str) else value) if reason}
    return found


def test_every_reason_that_a_stage_declares_has_a_meaning() -> None:
    missing = [f"{stage}/{reason}" for stage, reason in sorted(declared()) if not meaning(stage, reason)]
    assert not missing, "add them to pipelines/audit/reasons.py and docs/reasons.md"


def test_every_reason_in_the_code_has_a_meaning() -> None:
    found = {(module, reason) for module, tree in trees() for reason in given(tree) if reason}
    assert len(found) > 90, "the places where reasons are given are found"
    missing = [f"{module}: {reason}" for module, reason in sorted(found) if reason not in KNOWN]
    assert not missing, "add them to pipelines/audit/reasons.py and docs/reasons.md"


def test_no_meaning_is_left_of_a_reason_that_the_code_does_not_give() -> None:
    source = "".join((ROOT / module).read_text(encoding="utf-8") for module, _ in trees())
    names = {reason for _, reason in declared()}
    for stage, reasons in REASONS.items():
        for reason in reasons:
            literal = reason.partition(">")[2].partition("<")[0].strip("_") if reason.startswith("<") else reason
            assert reason in names or re.search(rf'["/}}`_]{re.escape(literal)}["`{{_]', source), f"{stage}/{reason}"


@pytest.mark.parametrize("stage", REASONS)
def test_the_page_has_an_entry_for_every_reason_and_no_other(stage: str) -> None:
    section = re.search(rf"^## `{stage}`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/reasons.md has no section `{stage}`"
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|$", section[1], re.MULTILINE))
    assert rows == dict(REASONS[stage])


def test_a_score_is_part_of_its_reasons() -> None:
    assert meaning("score", "quality_below_min") == REASONS["score"]["<score>_below_min"]
    assert meaning("score", "topic_is_geo_metry") == REASONS["score"]["<score>_is_<value>"]
    assert meaning("score", "other") == meaning("plugin", "x") == meaning(None, None) == ""
