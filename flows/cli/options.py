"""Which options do several commands share? Each once, with its help text and its environment variable."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from flows.root import DEFAULT_ROOT

ROOT = DEFAULT_ROOT


def memory_bytes(text: str) -> int:
    """Bytes from `4GB`, `500 MB` or `2.5GiB`. Raises: typer.BadParameter: for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?\s*", text, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no size; write it as 4GB or 500MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** (1 + "KMGT".index(match[2].upper())))


def _check_reachable(root: str) -> str:
    if "://" in root:
        from pipelines.ledger import storage

        storage.check_reachable(root)
    return root


def _check_writable(root: str) -> str:
    if "://" in root:
        from pipelines.ledger import storage

        storage.check_writable(root)
    return root


_ROOT_HELP = "Folder or object-store URL that contains steps and runs."
Root = Annotated[str, typer.Option("--root", envvar="WINNOW_ROOT", help=_ROOT_HELP, callback=_check_reachable)]
WrittenRoot = Annotated[str, typer.Option("--root", envvar="WINNOW_ROOT", help=_ROOT_HELP, callback=_check_writable)]
"""The root of a command that writes there. A store that does not take a file is told before any compute."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="Print texts as they are, control characters too: they may steer the terminal. For pipes."
    ),
]
Run = Annotated[str, typer.Argument(help="A run's id, a unique prefix of it, or `latest`.")]
RunOption = Annotated[str, typer.Option("--run", help="A run's id, a unique prefix of it, or `latest`.")]
Recipe = Annotated[str, typer.Argument(help="Path of the recipe's YAML file.")]
Columns = Annotated[
    str | None,
    typer.Option(
        help="The columns to read: `instruction=question,response=answer`, `text=body` or `messages=turns`; "
        "`instruction=a+b` joins two. Default: guessed."
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        envvar="WINNOW_ENGINE",
        help="`ray` (started on this machine, or the cluster of RAY_ADDRESS) or `local` (a pool of processes).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", envvar="WINNOW_WORKERS", min=1, help="Shards processed at a time. Default: one per CPU."),
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        envvar="WINNOW_MEMORY",
        parser=memory_bytes,
        metavar="SIZE",
        help="Memory of each worker, as `4GB`: one that holds more ends the command. Default: no limit. Linux only.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one key of the recipe: `path.to.key=value`. Repeatable."),
]
Device = Annotated[str, typer.Option(help="`auto` (a GPU if torch sees one), `cpu`, `cuda` or `cuda:<number>`.")]
Precision = Annotated[str, typer.Option(help="`fp32`, or `bf16`: faster, and now and then another token.")]
Checkpoint = Annotated[str, typer.Argument(help="A checkpoint's folder, a training folder, or `latest`.")]
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="The model to start from: a checkpoint's folder, a training folder, `latest`, or a transformers folder.",
    ),
]


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises: WinnowError: if a value is none of the choices."""
    if value not in choices:
        from pipelines.errors import WinnowError, nearest

        raise WinnowError(f"{option} {value!r}: {nearest(value, choices)}")
