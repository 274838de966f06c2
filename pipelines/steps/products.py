"""What are the products of steps called? Names for everything that reads them, without importing the steps."""

from __future__ import annotations

RECORDS = "records"
"""Text records that a step keeps: Parquet files of RECORD, `extra` columns and the columns of scores."""

MODEL, TRAINING_ROWS, MEASURES = "model", "training_rows", "measures"
"""Of `train-<score>`: the model; the rows it was trained on, with their labels; what was measured while training."""

SCORES = "scores"
"""Of `score-<score>`: ids and the columns of the score, a file for each shard of records, in the same order."""

LIMITS = "limits"
"""Of `select`: for each cut the least score that stays, by group, JSON."""

THINKING = "thinking"
"""Of `refine`: thinking that came in, counted by source and family of tags."""

ANSWERS = "answers"
"""Of `rewrite-answers`: what was asked for each record, and every answer that the model gave."""

REWRITES = "rewrites"
"""Of `rewrite`: what became of the answer to each record that was asked."""

INDEX = "index"
"""Of `benchmark-index`: the n-grams of all items."""

CODE_INDEX = "code_index"
"""Of `benchmark-index`: the solutions of items that are programs."""

VECTORS = "vectors"
"""Of `item-vectors`: sentence vectors of items, one file a benchmark."""

HITS, CLEAN_IDS = "hits", "clean_ids"
"""Of `contamination`: all hits of a shard; what the corpus held of each benchmark."""

TOKENIZER_JSON = "tokenizer"
"""Of `tokenizer`: one `tokenizer.json`."""

TOKEN_ROWS = "tokens"
"""Of `tokens`: the ids of each record kept."""

PACKS, VALIDATION_PACKS, ROW_FATES = "packs", "validation_packs", "row_fates"
"""Of `pack`: the packs of the epochs; those of rows held out; for each token row, how training uses it, or why not."""

TRAINED_ITEMS = "trained_items"
"""Of `training-overlap`: for each benchmark, which items the rows drawn for training hold."""
