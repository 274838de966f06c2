"""What is fuzzed: where a user's bytes come in. Each target has inputs that are right, and says what must hold of a
changed one."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import yaml

from filters.thinking.strip import strip
from flows.build import build
from flows.gc import gc
from flows.verify import verify
from flows.why import why
from pipelines.audit.diff import diff
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger.runs import open_run, recorded
from pipelines.recipe import load
from pipelines.steps.encoding import encoder
from tests.fuzz import readers
from tests.fuzz.mutate import mutated, mutated_value

ROOT = Path(__file__).parents[2]


class Target(NamedTuple):
    """prepare: right inputs; it may leave more in the folder given. change: a changed input. run: what is done with it,
    in that folder. It raises only Winnow's errors."""

    prepare: Callable[[Path], Sequence[bytes]]
    change: Callable[[Sequence[bytes], random.Random], bytes]
    run: Callable[[bytes, Path], None]


def change_bytes(inputs: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the inputs with some bytes changed."""
    return mutated(rng.choice(inputs), inputs, rng)


def change_json(inputs: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the inputs, which are JSON, with values or bytes changed."""
    if rng.random() < 0.3:
        return change_bytes(inputs, rng)
    return json.dumps(mutated_value(json.loads(rng.choice(inputs)), rng)).encode(errors="surrogatepass")


# ---- answers with thinking


def _answers(place: Path) -> list[bytes]:
    return [
        b"<think>First, 2 and 2.\nThat is 4.</think>\n\nThe answer is 4.",
        b"<|channel|>analysis<|message|>We need 4.<|end|><|start|>assistant<|channel|>final<|message|>4",
        "◁think▷ hm ◁/think▷ Yes.".encode(),
        b"<reasoning>because</reasoning><answer>no</answer>",
        b"```xml\n<think>code, not thinking</think>\n```\nUse the tag `<think>` so.",
        b"[THINK]a[/THINK] b\n&lt;think&gt;c&lt;/think&gt; d\n<Thought>e</Thought>\n**Final answer:** f",
        b"Here are my thoughts: it is 5.\n\nHere is my answer: 5",
    ]


def _strip(data: bytes, place: Path) -> None:
    """Nothing is added, a second pass finds nothing more, and neighbours do not matter."""
    text = data.decode(errors="replace")
    alone = strip(pa.array([text], pa.string()))
    again = strip(alone.text)
    beside = strip(pa.array(["<think>a</think>b", text, "</think>"], pa.string()))
    assert beside.text[1].as_py() == alone.text[0].as_py(), "a neighbour changes a text"
    if not alone.tangled[0]:
        assert again.text[0].as_py() == alone.text[0].as_py() or again.tangled[0], "a second pass changes a text"


# ---- recipes


def _recipes(place: Path) -> list[bytes]:
    """Real recipes, as YAML and as JSON, which YAML contains."""
    texts = [path.read_bytes() for path in sorted((ROOT / "pipelines/recipes").glob("*.yaml"))]
    return [*texts, *(json.dumps(yaml.safe_load(text)).encode() for text in texts)]


def _change_recipe(inputs: Sequence[bytes], rng: random.Random) -> bytes:
    values = [given for given in inputs if given.startswith(b"{")]
    return change_json(values, rng) if rng.random() < 0.7 else change_bytes(inputs, rng)


def _load_recipe(data: bytes, place: Path) -> None:
    (place / "recipe.yaml").write_bytes(data)
    load(str(place / "recipe.yaml"))


# ---- the ledger and tokenizers, of a small build

_RECIPE = """
name: small
sources: [{name: generated_arithmetic, adapter: generated_arithmetic, rows: 200}]
stages: [{kind: strip_thinking}, {kind: loop}]
contamination: {benchmarks: [{name: generated, rows: 5}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


def _build(place: Path) -> Path:
    """The root of a small build."""
    (place / "recipe.yaml").write_text(_RECIPE)
    build(str(place / "recipe.yaml"), str(place / "root"), "local", 1)
    return place / "root"


def _ledger(place: Path) -> list[bytes]:
    """Every JSON file of the build: its path below the root, a line break, and its content."""
    root = _build(place)
    files = [*root.glob("steps/*/manifest.json"), *root.glob("runs/*/*.json"), *root.glob("*.json")]
    return [f"{path.relative_to(root)}\n".encode() + path.read_bytes() for path in sorted(files)]


def _change_ledger(inputs: Sequence[bytes], rng: random.Random) -> bytes:
    path, _, content = rng.choice(inputs).partition(b"\n")
    return path + b"\n" + change_json([content], rng)


def _read_ledger(data: bytes, place: Path) -> None:
    """Every command that reads a root does its work, or names what is damaged."""
    name, _, content = data.partition(b"\n")
    shutil.rmtree(place / "damaged", ignore_errors=True)
    shutil.copytree(place / "root", place / "damaged")
    (place / "damaged" / name.decode()).write_bytes(content)
    root = str(place / "damaged")

    def compare() -> None:
        run = open_run(root, "latest")
        diff(run, run)

    for read in (
        lambda: why("generated_arithmetic/generated/7", "latest", root),
        lambda: verify("latest", root),
        lambda: [*recorded(root)],
        compare,
        lambda: gc(root, dry_run=True),
        lambda: build(str(place / "recipe.yaml"), root, "local", 1),
    ):
        with contextlib.suppress(WinnowError, CheckFailed):
            read()


def _tokenizers(place: Path) -> list[bytes]:
    return [path.read_bytes() for path in _build(place).glob("steps/tokenizer-*/shards/tokenizer.json")]


def _load_tokenizer(data: bytes, place: Path) -> None:
    """One that is accepted gives the ids of its own library."""
    made = encoder(data, "tokenizer.json")
    library = made.other.plain
    for text in ("What is 2 + 2?", "Là-bas\n\n  1999 's", ""):
        assert made.encode(text) == list(library.encode(text, add_special_tokens=False).ids), "ids differ"


TARGETS: dict[str, Target] = {
    "thinking": Target(_answers, change_bytes, _strip),
    "recipe": Target(_recipes, _change_recipe, _load_recipe),
    "ledger": Target(_ledger, _change_ledger, _read_ledger),
    "tokenizer": Target(_tokenizers, change_json, _load_tokenizer),
    "json": Target(readers.json_files, readers.change_file, readers.read_file),
    "delimited": Target(readers.delimited_files, readers.change_file, readers.read_file),
    "parquet": Target(readers.parquet_files, readers.change_file, readers.read_file),
    "arrow": Target(readers.arrow_files, readers.change_file, readers.read_file),
}
"""Name -> target."""
