"""Which lines does a reader see of what is forgotten and removed?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flows.console import count, quantity
from flows.styled import Styled, bold, styled

if TYPE_CHECKING:
    from flows.forget import ForgetAnswer
    from flows.gc import GcAnswer
    from pipelines.audit.forget import Change, Proof

SHOWN = 12
"""Lines of each kind that are printed; the JSON answer and the receipt have all."""


def forget_lines(answer: ForgetAnswer) -> Iterator[str | Styled]:
    """What holds the rows; of `--apply` the proof and the receipt."""
    if not answer.runs:
        yield "no run below the root holds these rows: they are forgotten already"
    for held in answer.runs:
        name = held.run if held.status == "finished" else f"{held.run} ({held.status})"
        yield styled(bold(name), f"  {quantity(len(held.rows), 'row')}, {count(held.reached)} in the corpus")
        yield from _some([f"    {row}" for row in held.rows])
        width = max((len(place.file) for place in held.places), default=0)
        yield from _some(
            [f"  {place.file:<{width}}  {quantity(place.rows, _unit(place.product))}" for place in held.places]
        )
        yield from _some([f"  computed from all rows: {name}" for name in held.made_from])
        yield from _some([f"  stays, though it is like {one.of}: {one.row} ({one.reason})" for one in held.alike])
    for use in answer.trainings:
        began = f"started from {use.started_from}, which had read it; " if use.started_from else ""
        steps = f"read at {quantity(len(use.read_at), 'step')}" if use.read_at else "not read yet"
        steps = began + ("not read again" if began and not use.read_at else steps)
        later = f", {len(use.to_read_at)} to come" if use.to_read_at else ""
        yield f"training {use.training}: {steps}{later}; step {use.step} of {use.total_steps}"
        yield from _some([f"  in the weights of {checkpoint}" for checkpoint in use.checkpoints])
    yield from _some(
        [
            f"training {name}: its packs, or those of what it started from, are of no run below the root, so it may "
            "have read the rows"
            for name in answer.unknown_trainings
        ]
    )
    yield from _some([f"evaluation of such a checkpoint: {name}" for name in answer.evaluations])
    yield from _some([f"table of scores with the id of a row: {name}" for name in answer.scores])
    yield from _some([f"texts by which an ablation judges, with a row: {name}" for name in answer.held_out])
    yield from _some([f"recorded completions that quote a row: {name}" for name in answer.completions])
    yield from _some([f"unfinished step, may hold a row: {name}" for name in answer.unfinished])
    if answer.receipt is None:
        if answer.runs:
            yield "nothing is changed; --apply makes new runs without these rows"
        return
    for proof in answer.proofs:
        yield from _proof_lines(proof)
    yield f"tombstone {answer.tombstone}, receipt {answer.receipt}"
    saw = sum(len(use.checkpoints) for use in answer.trainings)
    if saw:
        verb = "stays as it is" if saw == 1 else "stay as they are"
        yield f"{quantity(saw, 'checkpoint')} saw the rows and {verb}: train again on the new run"
    yield "the former bytes are still there: `winnow gc --dry-run` lists them, `winnow gc` removes them"


def _unit(product: str) -> str:
    return "pack" if product in ("packs", "validation_packs") else "row"


def _proof_lines(proof: Proof) -> Iterator[str | Styled]:
    yield bold(f"{proof.old} is now {proof.new}")
    others, kept = quantity(proof.rows, "other row"), quantity(proof.texts, "row")
    yield f"  {quantity(proof.forgotten, 'row')} dropped as forgotten; {others} read as before, byte for byte"
    yield f"  {kept} of both corpora have the same text"
    yield f"  {quantity(proof.searched, 'file')} of the new run searched: none holds a forgotten row"
    yield from _changes("kept now", proof.kept_now)
    yield from _changes("dropped now", proof.dropped_now)
    yield f"  packs: {count(proof.packs[0])} before, {count(proof.packs[1])} now"


def _changes(what: str, changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield f"  {what}: {quantity(len(changes), 'row')}"
        yield from _some([f"    {one.row}  ({one.reason}{f', {one.twin}' if one.twin else ''})" for one in changes])


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from (lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  ... and {count(len(lines) - SHOWN)} more"


def gc_lines(answer: GcAnswer) -> Iterator[str]:
    """What was, or would be, removed, and what was kept."""
    width = max((len(one.folder) for one in answer.garbage), default=0)
    for one in answer.garbage:
        yield f"{one.folder:<{width}}  {one.bytes / 1e6:>10,.2f} MB  {one.why}"
    for folder, why in answer.kept.items():
        yield f"kept: {folder}: {why}"
    verb = "removed" if answer.removed else "would be removed"
    files = sum(one.files for one in answer.garbage)
    yield f"{verb}: {quantity(len(answer.garbage), 'folder')}, {quantity(files, 'file')}, {answer.bytes / 1e6:,.2f} MB"
