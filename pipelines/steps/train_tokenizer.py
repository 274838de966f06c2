"""Which tokenizer is a corpus written in? One trained on the corpus, or a `tokenizer.json` that the recipe names."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from dedup.columns import as_array
from dedup.exact import leading
from pipelines.bpe.train import add_counts, count_words, learn_merges
from pipelines.bpe.words import SPLIT, normalized
from pipelines.errors import CheckFailed, InputError, NoRowLeft
from pipelines.ledger import input_files, storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.recipe import TEXT_FIELDS, TokenizerSpec
from pipelines.steps.encoding import SPECIAL, Ints, byte_characters, encoder
from pipelines.steps.ingest import INGEST
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.step import Build, Estimate, Rates, RecipeStep, Workload, always, by_text

SAMPLE_CHARS = 10_000
"""A tokenizer is trained on so many characters of each instruction and of each response."""

MIN_FREQUENCY = 2
"""A pair is merged if it occurs so often."""

SAMPLE_BYTES = 32 << 20
"""...and on at most so much text of each source, so that it costs about a core-second per source however large the
corpus is. Upstream caps documents per file instead."""

_NO_TEXT = pa.chunked_array([], pa.string())


def train_tokenizer(run: Run, records: Manifest, settings: TokenizerSpec) -> Manifest:
    """Train byte-level BPE on the records, or take the `tokenizer.json` that `settings.path` names.

    The product is a `tokenizer.json` that Hugging Face's library loads; `counts` has `vocabulary/trained` or
    `vocabulary/given`, its size. A trained one depends on the set of records alone: not on their order, their shards or
    any thread count.

    Raises: InputError: if a given tokenizer cannot be used. CheckFailed: if there is no text to train on.
    """
    if settings.path is not None:
        data = _read(settings.path)
        checked = encoder(data, settings.path)
        given = TOKENIZER.step({"given": input_files.identity(settings.path)})
        work = functools.partial(_copy, data, checked.vocab_size)
        return run.do(given, lambda context: context.map(work, ["given"]))
    parameters = {"vocab_size": settings.vocab_size, "sample_bytes": SAMPLE_BYTES, "sample_chars": SAMPLE_CHARS}
    step = TOKENIZER.step(parameters, (records.key,))
    return run.do(step, lambda context: _train(context, records.shards, settings.vocab_size))


def _make(build: Build) -> Manifest:
    records = build.records
    if not records.rows_kept:
        raise NoRowLeft(_no_row_left(build.made))
    return train_tokenizer(build.run, records, build.recipe.tokenizer)


def _no_row_left(made: Mapping[str, Manifest]) -> str:
    """Where all rows went, for a recipe that leaves none."""
    reasons = {reason: rows for manifest in made.values() for reason, rows in manifest.reasons.items()}
    reasons = dict(sorted(reasons.items(), key=lambda pair: -pair[1]))
    listed = ", ".join(f"{reason} {rows:,}" for reason, rows in list(reasons.items())[:3]) or "the sources have none"
    if others := list(reasons.values())[3:]:
        listed += f", other reasons {sum(others):,}"
    return f"no row is left of {made[INGEST.name].rows_in or 0:,}: {listed}"


SAMPLING = "tokenizer/sample"
"""The rate at which the sample is chosen (`pipelines/rates.json`)."""


def _on_sample(step: str, workload: Workload, rates: Rates) -> Estimate:
    """Training reads a sample of each source. To choose it, all text is read twice."""
    estimate, rate = by_text(step, workload, rates), rates[step]
    sample = min(workload.text_bytes, SAMPLE_BYTES * len(workload.recipe.sources))
    training = rate.core_seconds_before + sample / 1e6 / rate.mb_per_core_second
    choosing = workload.text_bytes / 1e6 / rates[SAMPLING].mb_per_core_second
    return estimate._replace(core_seconds=training + choosing)


TOKENIZER = RecipeStep(
    name="tokenizer",
    products={TOKENIZER_JSON: "a tokenizer.json"},
    wanted=always,
    make=_make,
    estimate=_on_sample,
)


def _train(context: StepContext, shards: Sequence[TableRef], vocab_size: int) -> list[Part]:
    # A record's digest decides whether it is in the sample, so the sample does not depend on the order of records. The
    # first phase counts bytes per source and bin (the first two bytes of the digest); each source then gives its first
    # bins, as many as fit in the budget.
    tallies = context.map(tally_sample, shards, phase="tally")
    limits = _sample_limits([storage.map_arrow(part.file("tally").path) for part in tallies], SAMPLE_BYTES)
    words = context.map(functools.partial(_count_words, limits), shards, phase="words")
    paths = tuple(part.file("words").path for part in words if part.counts["drawn"])
    if not paths:
        raise CheckFailed("no record is left to train a tokenizer on")
    return context.map(functools.partial(_fit, vocab_size), [paths])


def tally_sample(shard: TableRef, target: Target) -> Part:
    """The bytes of text of each source and bin."""
    table = storage.read_parquet(shard.path, ["source", "digest", *TEXT_FIELDS])
    sizes = [pc.binary_length(_cut(as_array(table[name]))) for name in TEXT_FIELDS]
    rows = pa.table({"source": table["source"], "bin": _bins(table), "bytes": pc.add(*sizes).cast(pa.int64())})
    tally = rows.group_by(["source", "bin"], use_threads=False).aggregate([("bytes", "sum")])
    return part(tally=storage.write_arrow(target.path(suffix=".arrow"), tally))


def _bins(table: pa.Table) -> pa.Array:
    """The bin of each row: the first two bytes of its digest, int32."""
    return pa.array(leading(as_array(table["digest"])).astype(np.int32))


def _cut(texts: pa.StringArray) -> pa.StringArray:
    """Texts cut to SAMPLE_CHARS."""
    long = pc.greater(pc.binary_length(texts), SAMPLE_CHARS)  # no fewer bytes than characters; few texts are so long
    if not pc.any(long).as_py():
        return texts
    return pc.replace_with_mask(texts, long, pc.utf8_slice_codeunits(texts.filter(long), 0, SAMPLE_CHARS))


def _sample_limits(tallies: Sequence[pa.Table], budget: int) -> dict[str, int]:
    """Per source, how many bins from 0 have text that fits in `budget` bytes together; at least the first with text."""
    sizes: dict[str, Ints] = {}
    for tally in tallies:
        for source in pc.unique(tally["source"]).to_pylist():
            rows = tally.filter(pc.equal(tally["source"], source))
            size = sizes.setdefault(source, np.zeros(1 << 16, np.int64))
            size[rows["bin"].to_numpy()] += rows["bytes_sum"].to_numpy()
    limits = {}
    for source, size in sorted(sizes.items()):
        fitting = int(np.searchsorted(np.cumsum(size), budget, side="right"))
        limits[source] = max(fitting, int(np.argmax(size > 0)) + 1)
    return limits


def _count_words(limits_of: dict[str, int], shard: TableRef, target: Target) -> Part:
    """Count the words of the sample's rows: columns word and count; `drawn` counts the rows."""
    table = storage.read_parquet(shard.path, ["source", "digest"])
    sources = as_array(table["source"]).dictionary_encode()
    limits = np.array([limits_of[source] for source in sources.dictionary.to_pylist()], np.int64)
    drawn = pa.array(_bins(table).to_numpy() < limits[sources.indices.to_numpy()], pa.bool_())
    # Of a large source few rows are drawn: of most shards none, so that their text is not read again.
    rows = pc.sum(drawn).as_py() or 0
    texts = storage.read_parquet(shard.path, list(TEXT_FIELDS)).filter(drawn).columns if rows else [_NO_TEXT]
    normalize = normalizers.NFC().normalize_str
    counted = [count_words(normalized(_cut(as_array(column)), normalize)) for column in texts]
    words = storage.write_arrow(target.path(suffix=".arrow"), add_counts(pa.concat_tables(counted)))
    return part(words=words, counts={"drawn": rows})


def _fit(vocab_size: int, paths: tuple[str, ...], target: Target) -> Part:
    counted = add_counts(pa.concat_tables(storage.map_arrow(path) for path in paths))
    data = tokenizer_json(counted, vocab_size)
    return _copy(data, encoder(data, "the trained tokenizer").vocab_size, "trained", target)


def tokenizer_json(counted: pa.Table, vocab_size: int) -> bytes:
    """The file of the tokenizer that counted words (columns word and count) give: special tokens, bytes, merges."""
    characters = byte_characters()
    tokens = sorted(characters.values())  # all 256 bytes, or a byte that the sample lacks could not be encoded at all
    order = np.array([tokens.index(characters[byte]) for byte in range(256)], np.int64)
    merges = []
    room = max(0, vocab_size - len(SPECIAL) - len(tokens))
    for left, right in learn_merges(counted, order, room, MIN_FREQUENCY).tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *tokens])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer.to_str(pretty=True).encode()


def _copy(data: bytes, vocab_size: int, origin: str, target: Target) -> Part:
    file = storage.write_bytes(storage.join(target.folder, "shards", "tokenizer.json"), data)
    return part(tokenizer=file, counts={f"vocabulary/{origin}": vocab_size})


def _read(path: str) -> bytes:
    if not storage.exists(path):
        raise InputError(f"{path}: no such tokenizer (relative paths are relative to the recipe's folder)")
    return storage.read_bytes(path)
