"""Which evaluation items is a corpus checked against? Their text, and the index of it as a step of its own.

Any corpus checked against the same items below one root reuses the index.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dedup.readings import READING_VERSION
from filters.contamination.code import CodeIndex, build_code_index, code_index_from_table, code_index_to_table
from filters.contamination.index import BenchmarkIndex, build_index, index_from_table, index_to_table
from filters.contamination.rules import CLASSES, RULES
from pipelines.benchmarks import BENCHMARKS, Benchmark
from pipelines.benchmarks.items import name_in_ids
from pipelines.errors import InputError, RecipeError, WinnowError, nearest
from pipelines.ledger import input_files, storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe
from pipelines.steps.products import CODE_INDEX, INDEX
from pipelines.steps.step import RecipeStep
from pipelines.validation import Key

SEED = 0
"""Computed benchmarks have the same items whatever the seed of the corpus: their scores are compared across runs."""


def benchmark_index(run: Run, settings: Contamination) -> Manifest:
    """Build, or find, the index of the benchmarks' items.

    Raises: RecipeError: as `check_contamination`. InputError: for benchmark files that cannot be read.
    """
    check_contamination(settings)
    benchmarks = [identity_of(spec) for spec in settings.benchmarks]
    step = BENCHMARK_INDEX.step({"benchmarks": benchmarks, "reading": READING_VERSION})
    readers = [reader_of(spec) for spec in settings.benchmarks]
    return run.do(step, lambda context: context.map(_build_index, [settings.benchmarks]), uses=readers)


BENCHMARK_INDEX = RecipeStep(
    name="benchmark-index",
    products={
        INDEX: "n-grams of the items of all benchmarks, one Arrow file",
        CODE_INDEX: "solutions of the items that are programs, one Arrow file",
    },
    wanted=lambda recipe: bool(recipe.contamination),
    make=lambda build: benchmark_index(build.run, contamination_of(build.recipe)),
    estimate=None,
)


def contamination_of(recipe: Recipe) -> Contamination:
    """The contamination section of a recipe that has one."""
    assert recipe.contamination
    return recipe.contamination


def _build_index(specs: tuple[BenchmarkSpec, ...], target: Target) -> Part:
    benchmarks = [(spec.name, benchmark_items(spec)) for spec in specs]
    return part(
        index=storage.write_arrow(target.path(suffix=".arrow"), index_to_table(build_index(benchmarks))),
        code_index=storage.write_arrow(
            target.path(CODE_INDEX, ".arrow"), code_index_to_table(build_code_index(benchmarks))
        ),
    )


@functools.lru_cache(maxsize=1)
def open_index(path: str) -> BenchmarkIndex:
    """The index, mapped once per worker."""
    return index_from_table(storage.map_arrow(path))


@functools.lru_cache(maxsize=1)
def open_code_index(path: str) -> CodeIndex:
    """The index of solutions, mapped once per worker."""
    return code_index_from_table(storage.map_arrow(path))


def benchmark_items(spec: BenchmarkSpec) -> pa.Table:
    """The ITEM table of a recipe's benchmark, for the contamination check and for evaluation.

    Raises: RecipeError: if the recipe names no known benchmark, or gives it the wrong keys. InputError: for its files.
    """
    benchmark = _benchmark(spec)
    if benchmark.generate is not None:
        assert spec.rows is not None
        return benchmark.generate(spec.rows, SEED)
    assert benchmark.read is not None
    items = benchmark.read([path for pattern in spec.paths for path in input_files.expand(pattern)])
    items = items if spec.rows is None else items.slice(0, spec.rows)
    if not items.num_rows:
        raise InputError(f"benchmark {spec.name}: no items in {', '.join(spec.paths)}")
    return items


def _benchmark(spec: BenchmarkSpec) -> Benchmark:
    name = spec.adapter or spec.name
    where = f"contamination.benchmarks: {spec.name}"
    if name not in BENCHMARKS:
        raise RecipeError(
            f"{where}: unknown benchmark {name!r}; {nearest(name, BENCHMARKS)} (files of your own: `adapter: items`)"
        )
    benchmark = BENCHMARKS[name]
    if benchmark.generate is not None and spec.paths:
        raise RecipeError(f"{where}: {name!r} is computed; leave out `path`")
    if benchmark.generate is not None and spec.rows is None:
        raise RecipeError(f"{where}: {name!r} is computed; say how many items: `rows: 300`")
    if benchmark.read is not None and not spec.paths:
        raise RecipeError(f"{where}: {name!r} has no published address; give the `path` of its files")
    return benchmark


def reader_of(spec: BenchmarkSpec) -> object:
    """The function that reads or computes the items of a benchmark. Raises: RecipeError: as `benchmark_items`."""
    benchmark = _benchmark(spec)
    return benchmark.read or benchmark.generate


def check_contamination(settings: Contamination) -> None:
    """Check the settings, without reading any file. Raises: RecipeError: naming the key."""
    for _, problem in contamination_problems(settings, files=False):
        raise problem


def contamination_problems(settings: Contamination, files: bool = True) -> Iterator[tuple[Key, WinnowError]]:
    """Every problem of the settings, with its key below `contamination`. files: whether they must be there."""
    if settings.rule not in RULES:
        hint = nearest(settings.rule, RULES)
        yield ("rule",), RecipeError(f"contamination.rule: unknown rule {settings.rule!r}; {hint}")
    for index, name in enumerate(settings.drop):
        if name not in CLASSES:
            hint = nearest(name, CLASSES)
            yield ("drop", index), RecipeError(f"contamination.drop: unknown class {name!r}; {hint}")
    names = [spec.name for spec in settings.benchmarks]
    for index, spec in enumerate(settings.benchmarks):
        key = ("benchmarks", index)
        if spec.name in names[:index]:
            yield (
                key,
                RecipeError(
                    f"contamination.benchmarks: two are called {spec.name!r}; give each its own name, and its `adapter`"
                ),
            )
        try:
            _benchmark(spec)
            paths = [path for pattern in spec.paths for path in input_files.expand(pattern)] if files else []
            if paths and all(map(storage.is_local, paths)):  # remote ones would be downloaded
                benchmark_items(spec)
        except RecipeError as error:
            yield key, error
        except InputError as error:
            said = str(error).removeprefix(f"benchmark {spec.name}: ")
            yield key, type(error)(f"benchmark {spec.name!r}: {said}")
    if not names:
        yield (
            ("benchmarks",),
            RecipeError("contamination.benchmarks: name at least one, or write `contamination: false`"),
        )


def identity_of(spec: BenchmarkSpec) -> dict[str, Any]:
    """What the items of a benchmark depend on. Names of files count as far as they are part of the ids."""
    benchmark = _benchmark(spec)
    files = [path for pattern in spec.paths for path in input_files.expand(pattern)]
    return {
        "name": spec.name,
        "adapter": benchmark.name,
        "version": benchmark.version,
        **BENCHMARKS.origin(benchmark.name),
        "rows": spec.rows,
        "files": [[name_in_ids(path), input_files.identity(path)] for path in files],
    }
