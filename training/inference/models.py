"""Open a model for evaluation by what its target is: an HRM-Text folder, another transformers folder, or a URL."""

from __future__ import annotations

from pipelines.errors import WinnowError
from pipelines.ledger import storage
from training.configs import Precision
from training.export import MODEL_TYPES, is_transformers
from training.inference.language_model import BATCH, LanguageModel, TokenModel


def is_endpoint(target: str) -> bool:
    """Whether a target is the URL of an HTTP endpoint."""
    return target.startswith(("http://", "https://"))


def open_model(
    target: str,
    device: str = "auto",
    precision: Precision = "fp32",
    batch: int = BATCH,
    model: str | None = None,
    average: bool = True,
) -> LanguageModel:
    """The model at a target.

    Args:
        target: a checkpoint, a training folder (its latest checkpoint), a transformers folder of HRM-Text or of any
            other causal language model, or an OpenAI-compatible URL such as `http://localhost:8000/v1`. A URL that ends
            with `/completions` asks for plain completions, without a chat template.
        device, precision: as in `load_text_generator`. An endpoint chooses its own.
        batch: largest number of sequences decoded together; of an endpoint, of requests at a time.
        model: the name of the model on an endpoint; None if it has only one.
        average: of a checkpoint, use the moving average of the weights, or else the last weights.

    Raises:
        CheckpointError, InputError: if a folder holds none of these.
        WinnowError: if there is no such device, or an endpoint refuses.
    """
    if is_endpoint(target):
        from training.inference.endpoint import Endpoint, api_of

        url, api = api_of(target)
        return Endpoint(url, model, api, concurrency=batch)
    if model is not None:
        raise WinnowError(f"--model {model}: only for a URL, and {target} is none")
    if is_transformers(target) and _model_type(target) not in MODEL_TYPES:
        from training.inference.transformers_model import TransformersModel

        return TransformersModel(target, device, precision, batch)
    from training.inference.checkpoint_model import load_checkpoint_model

    return load_checkpoint_model(target, average, device, precision, batch)


def open_token_model(
    target: str, device: str = "auto", precision: Precision = "fp32", average: bool = True
) -> TokenModel:
    """The model of a folder, to measure texts with. The arguments and errors are those of `open_model`."""
    if is_transformers(target) and _model_type(target) not in MODEL_TYPES:
        from training.inference.transformers_model import TransformersModel

        return TransformersModel(target, device, precision)
    from training.inference.generate import load_text_generator

    return load_text_generator(target, average, device, precision)


def vocabulary_of(target: str) -> str:
    """The digest of the tokens of the model in a folder (see `TokenModel`), without loading the model.

    Raises:
        CheckpointError, InputError: if a folder holds no model.
    """
    if is_transformers(target) and _model_type(target) not in MODEL_TYPES:
        from training.inference.transformers_model import folder_vocabulary

        return folder_vocabulary(target)
    from training import checkpoint
    from training.inference.generate import read_tokenizer, vocabulary_digest

    folder = target if is_transformers(target) else checkpoint.read(target).folder
    return vocabulary_digest(read_tokenizer(storage.join(folder, "tokenizer.json")).get_vocab())


def identity_of(target: str, model: str | None = None, average: bool = True) -> str:
    """The identity of the model at a target (see `LanguageModel`), without loading the model of a folder.

    The arguments and errors are those of `open_model`.
    """
    if is_endpoint(target):
        return open_model(target, model=model).identity
    if is_transformers(target) and _model_type(target) not in MODEL_TYPES:
        from training.inference.transformers_model import folder_digest

        return folder_digest(target)
    from training.inference.checkpoint_model import model_identity

    return model_identity(target, average)


def _model_type(folder: str) -> str:
    config = storage.read_json(storage.join(folder, "config.json"))
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""
