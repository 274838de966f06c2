"""Are the packs of a run those of a manifest, byte for byte? If not, what is the cause?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from pipelines.errors import CheckFailed
from pipelines.ledger.corpus_manifest import CorpusManifest, Head
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.pack import PACK, pack_files
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER


class SamePacks(BaseModel):
    """A manifest whose packs were built again. run: whose manifest it is. files: of packs, all with equal digests."""

    model_config = ConfigDict(frozen=True)

    run: str
    files: int


def compare_packs(run: RecordedRun, manifest: CorpusManifest) -> SamePacks:
    """Compare the packs of a run with those of a manifest by their digests.

    Raises: CheckFailed: naming the first file that differs, and the cause as far as it can be told.
    """
    packs = run.step(PACK.name)
    assert packs is not None, "a build ends with packs"
    expected = [file.digest for file in manifest.head.packs]
    built = [file.digest for file in pack_files(packs)]
    if built == expected:
        return SamePacks(run=manifest.head.run, files=len(built))
    differ = [index for index, pair in enumerate(zip(built, expected, strict=False)) if pair[0] != pair[1]]
    what = (
        f"{len(differ)} of {len(expected)} files differ"
        if len(built) == len(expected)
        else (f"{len(built)} files, the manifest has {len(expected)}")
    )
    raise CheckFailed(
        f"run {run.id}: its packs are not those of {manifest.path} ({what}), though all rows are the same: "
        f"{'; '.join(_causes(run, manifest.head)) or 'the cause is not known: please report it'}"
    )


def _causes(run: RecordedRun, head: Head) -> Iterator[str]:
    """What packs depend on, beside the rows, that is not as in the manifest."""
    settings = run.info["settings"]
    for key in ("seed", "sampling"):
        if settings[key] != head.recipe[key]:
            yield f"`{key}` is {settings[key]}, in the manifest {head.recipe[key]}"
    tokenizer = run.step(TOKENIZER.name)
    if tokenizer is not None and tokenizer.file(TOKENIZER_JSON).digest != head.tokenizer:
        if settings["tokenizer"].get("path") is not None:
            yield f"`tokenizer.path` is another tokenizer.json ({settings['tokenizer']['path']})"
        elif settings["tokenizer"] != head.recipe["tokenizer"]:
            yield f"`tokenizer` is {settings['tokenizer']}, in the manifest {head.recipe['tokenizer']}"
        else:
            yield (
                "the tokenizer that was trained differs: another version of the package `tokenizers`, or rows that the "
                "manifest lists twice"
            )
    code = {step.name: step.code for step in head.steps}
    for name in (TOKENIZER.name, TOKENS.name, PACK.name):
        step = run.step(name)
        if step is not None and code.get(name) != step.code_digest:
            yield f"the code or a library of step {name} is not that of the manifest (Winnow {head.winnow})"
