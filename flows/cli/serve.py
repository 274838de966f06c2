"""Which command answers requests over HTTP? serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Checkpoint, Device, Json, Root, check_choice
from flows.cli.session import announce

if TYPE_CHECKING:
    from flows.serving.server import ServeAnswer


def serve(
    checkpoint: Checkpoint = "latest",
    host: Annotated[str, typer.Option(help="The address to listen on. Other than loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one, which is printed.")] = 8000,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="`fp32`, or `bf16`: faster on a GPU, other tokens.")] = "fp32",
    slots: Annotated[int, typer.Option("--slots", "--batch", min=1, help="Answers generated together.")] = 16,
    max_queue: Annotated[int, typer.Option(min=0, help="Answers that may wait; more get status 429.")] = 64,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer that a request may ask for. Default: the context.")
    ] = None,
    condition: Annotated[
        str, typer.Option(help="Condition tags of requests that name none: `direct`, `cot`, `synth,cot` ...")
    ] = "direct",
    model_name: Annotated[
        str | None, typer.Option(help="The name that requests give. Default: the end of the checkpoint's path.")
    ] = None,
    api_key_file: Annotated[
        str | None, typer.Option(help="A file with the key that clients must send. Or set WINNOW_API_KEY.")
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Serve a checkpoint over HTTP with the OpenAI API: completions, chat completions, streaming.

    Requests are generated together: a new one takes the slot of one that has ended. A prompt or user message is an
    instruction, as in `winnow generate`; the field `condition` of a request chooses the condition. Ctrl-C stops the
    server. With `--json` one object with the address is printed when the server answers.

    Example: `winnow serve latest --port 8000`
    """
    from training.folders import find_checkpoint

    announce(as_json, f"serving {checkpoint} in {root}")
    folder = find_checkpoint(checkpoint, root)
    from flows.serving.server import read_key
    from flows.serving.server import serve as serve_checkpoint

    check_choice("--precision", precision, ("fp32", "bf16"))

    def started(answer: ServeAnswer) -> None:
        print_answer(answer, _lines(answer), as_json)

    serve_checkpoint(
        folder,
        host,
        port,
        device,
        precision,
        slots,
        max_queue,
        max_tokens,
        condition,
        model_name,
        read_key(api_key_file),
        started,
    )


def _lines(answer: ServeAnswer) -> list[str]:

    key = ", with a key" if answer.key else ""
    return [
        f"{answer.url}{key}",
        f"  model    {answer.model} on {answer.device} in {answer.precision}, context {answer.context} tokens",
        f"  slots    {answer.slots}, {answer.max_queue} more wait, cache of {answer.cache_bytes / 1e6:,.0f} MB",
    ]
