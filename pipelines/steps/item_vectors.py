"""Which rows say an evaluation item in other words? Sentence vectors of the items, and the rows near them.

The vectors of the items are a step of their own: they are expensive, and the same for every corpus.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.paraphrase import Embed, SentenceModel, nearest_items
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.storage import TableRef
from pipelines.recipe import TEXT_FIELDS, BenchmarkSpec, Contamination, Recipe
from pipelines.steps.benchmark_index import benchmark_items, contamination_of, identity_of, open_index, reader_of
from pipelines.steps.products import VECTORS
from pipelines.steps.step import Build, RecipeStep


def item_vectors(run: Run, settings: Contamination, model: SentenceModel) -> Manifest:
    """Compute, or find, the vectors of all items: one file a benchmark.

    Columns: item int32; vector, of the question, and of the question with its answer.
    """
    parameters = {"weights": model.weights, "benchmarks": [identity_of(spec) for spec in settings.benchmarks]}
    step = ITEM_VECTORS.step(parameters)
    work = functools.partial(_embed_items, model.embed)
    readers = [reader_of(spec) for spec in settings.benchmarks]
    return run.do(step, lambda context: context.map(work, settings.benchmarks), uses=readers)


def _wanted(recipe: Recipe) -> bool:
    return bool(recipe.contamination and recipe.contamination.semantic)


def _make(build: Build) -> Manifest:
    assert build.model is not None, "a caller that allows `semantic` gives the model"
    return item_vectors(build.run, contamination_of(build.recipe), build.model)


ITEM_VECTORS = RecipeStep(
    name="item-vectors",
    products={VECTORS: "a sentence vector for each question, and for each question with its answer"},
    wanted=_wanted,
    make=_make,
    estimate=None,
)


class Neighbours(NamedTuple):
    """How rows near an item are found: the embedding function, the items' vectors by benchmark, the least cosine."""

    embed: Embed
    vectors: tuple[TableRef, ...]
    similarity: float


def _embed_items(embed: Embed, spec: BenchmarkSpec, target: Target) -> Part:
    items = benchmark_items(spec)
    questions = items["question"].combine_chunks()
    answers = pc.replace_substring_regex(items["answer"], r"^([^|]+)\|.*$", r"\1").combine_chunks()
    answered = pc.not_equal(answers, "")
    with_answer = pc.binary_join_element_wise(questions, answers, "\n").filter(answered)
    numbers = pa.array(np.arange(items.num_rows, dtype=np.int32))
    vectors = embed([*questions.to_pylist(), *with_answer.to_pylist()])
    table = pa.table(
        {
            "item": pa.concat_arrays([numbers, numbers.filter(answered)]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
        }
    )
    return part(vectors=storage.write_arrow(target.path(suffix=".arrow"), table))


def near_rows(index_path: str, neighbours: Neighbours, shard: TableRef, target: Target) -> Part:
    """The rows whose instruction is near an item of an evaluation split; the response where there is no instruction.

    Leaves one Arrow file, product `near`: row int32, item int32, similarity float32.
    """
    index = open_index(index_path)
    records = storage.read_parquet(shard.path, list(TEXT_FIELDS))
    instructions, responses = (records[name].combine_chunks() for name in TEXT_FIELDS)
    texts = pc.if_else(pc.equal(instructions, ""), responses, instructions).dictionary_encode()
    first_items = np.searchsorted(index.arrays.bench, np.arange(len(index.names)))
    matrices, owners = [], []
    for first_item, file in zip(first_items, neighbours.vectors, strict=True):
        table = storage.map_arrow(file.path)
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        matrices.append(flat.reshape(table.num_rows, -1) if table.num_rows else np.empty((0, 1), np.float32))
        owners.append(table["item"].to_numpy() + first_item)
    owner = np.concatenate(owners).astype(np.int32)
    evaluated = index.arrays.trained[owner] == 0
    item_vectors, owner = np.concatenate(matrices)[evaluated], owner[evaluated]
    row_vectors = neighbours.embed(texts.dictionary.to_pylist())
    benchmark = index.arrays.bench[owner]
    text, item, value = nearest_items(row_vectors, item_vectors, owner, benchmark, neighbours.similarity)
    # Equal texts were embedded once; every row gets the result of its text.
    matches = pa.table({"text": text, "item": item, "similarity": value})
    rows = pa.table({"text": texts.indices.cast(pa.int32()), "row": pa.array(np.arange(len(texts), dtype=np.int32))})
    joined = rows.join(matches, "text", join_type="inner").select(["row", "item", "similarity"])
    joined = joined.sort_by([("row", "ascending"), ("item", "ascending")])
    return part(near=storage.write_arrow(target.path(suffix=".arrow"), joined))
