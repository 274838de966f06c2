"""What is wrong with a recipe? Everything that can be told before anything is computed, told together.

`load_checked` is `recipe.load` with these checks. It reads the first rows of files whose columns the recipe names, the
tokenizer, and the sizes of files.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.curate import STEPS, is_finished, wanted
from pipelines.errors import InputError, RecipeError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.ledger.layout import check_not_newer
from pipelines.ledger.runs import FAILED
from pipelines.plan import disk_needed
from pipelines.recipe import Draft, Recipe, read
from pipelines.steps.benchmark_index import contamination_problems
from pipelines.steps.duplicates.criteria import previous_runs
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES
from pipelines.steps.encoding import encoder
from pipelines.steps.rewrite import any_rewrite, rewrite_problems
from pipelines.steps.sampling import matches
from pipelines.steps.scores import score_problems
from pipelines.steps.source_files import Input, check_source
from pipelines.steps.step import Steps
from pipelines.steps.train_tokenizer import TOKENIZER
from pipelines.validation import Key, dotted

LEAST_DISK = 0.25
"""Share of the estimated disk space below which a first build is refused. The estimate assumes that no row is dropped;
a build that drops most rows needs less, and none needs so little."""


class RecipeWarning(UserWarning):
    """Something in a recipe has no effect, or may be too little."""


class Finding(NamedTuple):
    """A problem: the key that it is about, and the error that names it."""

    key: Key
    error: Exception


def load_checked(path: str, overrides: Sequence[str] = (), root: str | None = None, steps: Steps = STEPS) -> Recipe:
    """Read a recipe and check it. The arguments are those of `recipe.load` and of `check`.

    Raises: WinnowError: with every problem on a line of its own, of the file and of what it names.
    """
    draft = read(path, overrides)
    found = [] if draft.recipe is None else list(findings(draft.recipe, root, steps, partial=tuple(draft.kept)))
    if draft.problems or draft.recipe is None:
        raise RecipeError("\n".join([*draft.problems, *(_with_place(draft, finding) for finding in found)]))
    _raise(found, [_with_place(draft, finding) for finding in found])
    _warn(draft.recipe, root, steps)
    return draft.recipe


def check(recipe: Recipe, root: str | None = None, steps: Steps = STEPS, files: bool = True) -> None:
    """Check a recipe before anything is computed: its names, the files that it names, earlier runs, room for the build.

    root: where the build would write; without one, runs of `against` and free space are not checked. steps: of the
    build. files: whether sources and benchmarks must be there.

    Warns: RecipeWarning: for a sampling rule without files, and for less free space than the estimate.

    Raises: WinnowError: with every problem on a line of its own.
    """
    found = list(findings(recipe, root, steps, files))
    _raise(found, [_line(finding.key, finding) for finding in found])
    if files:
        _warn(recipe, root, steps)


def findings(
    recipe: Recipe, root: str | None, steps: Steps = STEPS, files: bool = True, partial: Collection[str] = ()
) -> Iterator[Finding]:
    """Every problem of a recipe. The arguments are those of `check`. partial: sections of which a part was left out."""
    unreachable: dict[str, str] = {}
    for index, spec in enumerate(recipe.sources):
        try:
            check_source(spec, unreachable, files)
        except WinnowError as error:
            yield Finding(("sources", index), _with_place_option(recipe, spec.name, error))
    for name, parts in (("scores", recipe.scores), ("stages", recipe.stages)):
        for index, part in enumerate(parts):
            try:
                part.check()
            except (ValueError, FileNotFoundError, ImportError) as error:
                yield Finding((name, index), RecipeError(str(error)))
    in_scores = score_problems(recipe) if "scores" not in partial else ()  # a cut may be at one that was left out
    for key, message in (*in_scores, *rewrite_problems(recipe)):
        yield Finding(key, RecipeError(message))
    if recipe.manifest is not None:
        try:
            CorpusManifest(recipe.manifest).check()
        except WinnowError as error:
            yield Finding(("manifest",), error)
    if recipe.contamination:
        for key, problem in contamination_problems(recipe.contamination, files):
            yield Finding(("contamination", *key), problem)
    made = {step.name for step in wanted(recipe, steps)}
    if recipe.tokenizer.path is not None and TOKENIZER.name in made:
        yield from _tokenizer(recipe.tokenizer.path)
    if recipe.subset is not None and recipe.tokenizer.path is None:
        message = "subset: tokens are counted before a tokenizer could be trained; name one as `tokenizer.path`"
        yield Finding(("subset",), RecipeError(message))
    if root is None:
        return
    for index, run in enumerate(recipe.against):
        for step in (EXACT_DUPLICATES, NEAR_DUPLICATES):
            if step.name in made:
                try:
                    previous_runs(root, [run], step)
                except WinnowError as error:
                    yield Finding(("against", index), error)
                    break
    try:
        check_not_newer(root)
        for folder in (root, *(storage.join(root, name) for name in ("steps", "runs", FAILED))):
            if folder == root or storage.is_folder(folder):
                storage.check_writable(folder)
    except WinnowError as error:
        yield Finding((), error)


def _with_place_option(recipe: Recipe, source: str, error: WinnowError) -> WinnowError:
    """The error about a source; in a build of a manifest, which was written elsewhere, with how its place is given."""
    if recipe.manifest is None:
        return error
    return type(error)(f"{error}; give its place with `--source {source}=PATH`, or of all files with `--data FOLDER`")


def _tokenizer(path: str) -> Iterator[Finding]:
    key = ("tokenizer", "path")
    if not storage.exists(path) or storage.is_folder(path):
        problem = "a folder; name the `tokenizer.json` in it" if storage.is_folder(path) else "no such tokenizer"
        yield Finding(key, InputError(f"tokenizer.path: {path}: {problem}; without `path` one is trained"))
        return
    try:
        encoder(storage.read_bytes(path), path)
    except (WinnowError, OSError) as error:
        yield Finding(key, InputError(f"tokenizer.path: {error}"))


def _with_place(draft: Draft, finding: Finding) -> str:
    key = draft.in_file(finding.key)
    return f"{draft.place(key)}: {_line(key, finding)}" if key else str(finding.error)


def _line(key: Key, finding: Finding) -> str:
    """The message; that of a stage, a score or the sampling is preceded by its key."""
    return (
        f"{dotted(key)}: {finding.error}"
        if key[:1] in (("stages",), ("scores",), ("sampling",))
        else str(finding.error)
    )


def _raise(found: Sequence[Finding], lines: Sequence[str]) -> None:
    if found:
        kind = type(found[0].error) if len({type(finding.error) for finding in found}) == 1 else RecipeError
        raise kind("\n".join(dict.fromkeys(lines)))


def _warn(recipe: Recipe, root: str | None, steps: Steps) -> None:
    """Warn of rules without files and of too little room. Raises: InputError: if a first build cannot fit."""
    unreachable: dict[str, str] = {}
    inputs = [file for spec in recipe.sources for file in check_source(spec, unreachable, columns=False)]
    for index, group in enumerate(recipe.sampling.groups):
        if not any(matches(_name(file), group) for file in inputs) and not _may_be_task(recipe, group.prefix):
            names = ", ".join(dict.fromkeys(map(_name, inputs[:5])))
            _say(f"sampling.groups.{index}: no file's name begins with {group.prefix!r} (names: {names})")
    if root is not None and storage.is_local(root):
        _check_room(recipe, root, steps, inputs)


def _name(file: Input) -> str:
    return f"{file.source}/{file.file}" if file.path else file.source


def _may_be_task(recipe: Recipe, prefix: str) -> bool:
    """Whether a prefix may name a task inside the files of a source: only its adapter knows them."""
    return any(spec.adapter and prefix.startswith(spec.name) for spec in recipe.sources)


def _check_room(recipe: Recipe, root: str, steps: Steps, inputs: Sequence[Input]) -> None:
    needed, free = disk_needed(recipe, inputs, steps), shutil.disk_usage(Path(storage.absolute(root))).free
    if free >= needed:
        return
    said = f"{root}: {_size(free)} are free, and the build is estimated to write up to {_size(needed)}"
    first = not storage.folders(storage.join(root, "steps"))
    if first and free < LEAST_DISK * needed:
        raise InputError(f"{said}; free some space, name another place with --root, or read fewer `rows`")
    needs_model = (recipe.contamination and recipe.contamination.semantic) or any_rewrite(recipe)
    if needs_model or not is_finished(storage.absolute(root), recipe, None, steps):
        _say(said)


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _say(message: str) -> None:
    warnings.warn(message, RecipeWarning, stacklevel=4)
