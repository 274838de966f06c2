"""Convert checkpoints to and from the folder format that transformers loads as `hrm_text`.

The parameters have the names of the published HRM-Text-1B file, so an export adds only the prefix `model.`.
transformers splits the fused matrices when it loads such a file. A file saved by transformers has them split; it can be
read too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.runs import run_that_made
from pipelines.steps import chat_tokenizer
from pipelines.steps.encoding import ENVELOPE, PADDING
from training import checkpoint
from training.folders import MANIFEST
from training.inference.chat import CONDITIONS, chat_template
from training.model import Block, HrmText, Matrix, ModelConfig

TRANSFORMERS_MODULES = {"attn": "self_attn", "mlp": "mlp"}
"""A block's part as published -> its name in transformers."""

CONTROL_TOKENS_FILE = "winnow.json"
"""In an exported folder: the ids of boq, eoq, eoa, pad and the conditions, and the context length."""


MAX_NEW_TOKENS = 256
"""The longest response by default, as of `winnow generate`."""


def to_transformers(folder: str, out: str, average: bool = True, root: str | None = None) -> str:
    """Export a checkpoint (or a training folder's latest) for transformers; returns `out`.

    Writes model.safetensors, config.json, generation_config.json, the tokenizer with a chat template, and README.md, a
    model card. `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load the folder. The logits
    are equal. `apply_chat_template` gives the prompt of an instruction, with the prefix mask as `token_type_ids`.

    Args:
        out: a local folder or a URL.
        average: export the moving average of the weights, or else the last weights.
        root: where the run that made the packs is recorded. The card describes the corpus if it is there.

    Raises:
        CheckpointError: if there is no checkpoint.
        InputError: if `out` is not empty, or transformers does not have the architecture.
    """
    from training.model_card import model_card, read_scores  # the facts of a run take half a second to import

    source = checkpoint.read(folder)
    config, special = source.state.config, source.state.special
    if config.model.architecture != "hrm" or config.model.norm != "magic":
        raise InputError(
            f"{folder}: a {config.model.architecture} with {config.model.norm} norms; "
            "transformers has only the architecture hrm with magic norms, so nothing else can be exported"
        )
    if storage.files(out) or storage.folders(out):
        raise InputError(f"{out} is not empty; export into a new folder")
    tokenizer = storage.read_json(storage.join(source.folder, "tokenizer.json"))
    run = run_that_made(root, source.state.run_key) if root else None
    card = model_card(source, average, run, read_scores(source, average, root) if root else ())
    prefix_lm = config.objective == "prefix_lm"
    model = checkpoint.read_model(source, average)
    tensors = {_prefixed(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    with storage.write_folder(out, last="config.json") as aside:
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        for name, value in {
            "config.json": config_json(config.model, special, prefix_lm),
            "generation_config.json": _generation_config(special),
            "tokenizer_config.json": _tokenizer_config(tokenizer, special, source.state.context, prefix_lm),
            "tokenizer.json": chat_tokenizer.with_chat(tokenizer),
            CONTROL_TOKENS_FILE: {"special": special, "context": source.state.context},
        }.items():
            (aside / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        names = _names(tokenizer)
        tokens = {role: names[special[role]] for role in ("boq", "eoq", *CONDITIONS)}
        template = chat_template(tokens, chat_tokenizer.replacements(tokenizer))
        (aside / "chat_template.jinja").write_text(template, encoding="utf-8")
        (aside / "README.md").write_text(card, encoding="utf-8")
    return out


def _names(tokenizer: Mapping[str, Any]) -> dict[int, str]:
    return {token["id"]: token["content"] for token in tokenizer["added_tokens"]}


def _generation_config(special: Mapping[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": special["boq"],
        "eos_token_id": special["eoa"],
        "pad_token_id": special["pad"],
        "do_sample": False,
        "max_new_tokens": MAX_NEW_TOKENS,
    }


def _tokenizer_config(
    tokenizer: Mapping[str, Any], special: Mapping[str, int], context: int, prefix_lm: bool
) -> dict[str, Any]:
    names = _names(tokenizer)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context - 1,
        "model_input_names": ["input_ids", *(["token_type_ids"] if prefix_lm else []), "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "bos_token": names[special["boq"]],
        "eos_token": names[special["eoa"]],
        "pad_token": names[special["pad"]],
    }


def config_json(config: ModelConfig, special: Mapping[str, int], prefix_lm: bool = True) -> dict[str, Any]:
    """The configuration that transformers reads. Its `num_hidden_layers` is the number of blocks of ONE module."""
    return {
        "architectures": ["HrmTextForCausalLM"],
        "model_type": "hrm_text",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.blocks,
        "num_attention_heads": config.heads,
        "head_dim": config.hidden // config.heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "H_cycles": config.high_cycles,
        "L_cycles": config.low_cycles,
        # The number of last L calls that are differentiated in each H cycle. This is bp_steps = 5 here.
        "L_bp_cycles": [0] * (config.high_cycles - 1) + [config.low_cycles],
        "embedding_scale": math.sqrt(config.hidden),
        "initializer_range": 1 / math.sqrt(config.hidden),
        "prefix_lm": prefix_lm,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": special["boq"],
        "eos_token_id": special["eoa"],
        "pad_token_id": special["pad"],
        "dtype": "float32",
    }


def is_transformers(folder: str) -> bool:
    """Whether a folder holds a model of transformers, as opposed to a checkpoint."""
    return storage.exists(storage.join(folder, "config.json")) and not storage.exists(storage.join(folder, MANIFEST))


def control_tokens(folder: str) -> tuple[dict[str, int], int, bool]:
    """Of a folder of transformers: control token ids by role, context length, and whether prompts are causal.

    A folder that Winnow did not export has HRM-Text's control tokens.

    Raises:
        InputError: if the tokenizer does not have them.
    """
    try:
        config = storage.read_json(storage.join(folder, "config.json"))
        tokenizer = storage.read_json(storage.join(folder, "tokenizer.json"))
        causal = not config.get("prefix_lm", True)
        own = storage.join(folder, CONTROL_TOKENS_FILE)
        if storage.exists(own):
            value = storage.read_json(own)
            return value["special"], value["context"], causal
        ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        special = {role: ids[name] for role, name in ENVELOPE.items()}
        special["pad"] = next(ids[name] for name in PADDING if name in ids)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise InputError(f"{folder}: the tokenizer lacks HRM-Text's control tokens ({error})") from None
    return special, config["max_position_embeddings"] + 1, causal


def from_transformers(folder: str) -> HrmText:
    """The model, in float32, of a folder of transformers: exported by Winnow, published, or saved by transformers.

    Raises:
        InputError: if it is not an hrm_text folder.
    """
    try:
        config = storage.read_json(storage.join(folder, "config.json"))
        tensors: dict[str, Tensor] = {}
        for shard in (name for name in storage.files(folder) if name.endswith(".safetensors")):
            with storage.local_copy(storage.join(folder, shard)) as local:
                tensors |= load_file(local)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: not a model folder of transformers ({error})") from None
    if config.get("model_type") != "hrm_text" or not tensors:
        kind = config.get("model_type")
        raise InputError(f"{folder}: model_type is {kind!r} with {len(tensors)} tensors, not hrm_text")
    shape = ModelConfig(
        vocab_size=config["vocab_size"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed_forward=config["intermediate_size"],
        # When transformers saves, it writes the number of attention calls into num_hidden_layers.
        blocks=config.get("num_layers_per_stack") or config["num_hidden_layers"],
        high_cycles=config["H_cycles"],
        low_cycles=config["L_cycles"],
        rope_theta=(config.get("rope_parameters") or {}).get("rope_theta", 10_000.0),
        max_positions=config["max_position_embeddings"],
    )
    with torch.device("meta"):
        model = HrmText(shape)
    matrices = Block.matrices(shape)
    state = {name: _published(_prefixed(name), matrices, tensors, folder) for name in model.state_dict()}
    state = {name: tensor.to(torch.bfloat16 if name == "z_L_init" else torch.float32) for name, tensor in state.items()}
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(f"{folder}: the tensors do not match its config.json: {error}") from None
    return model.eval().requires_grad_(False)


def read_weights(folder: str, average: bool = True) -> HrmText:
    """The model, in float32, of a checkpoint or of a folder of transformers.

    average: of a checkpoint, the moving average of the weights, or else the last weights.

    Raises:
        InputError, CheckpointError: if the folder is neither.
    """
    if is_transformers(folder):
        return from_transformers(folder)
    return checkpoint.read_model(checkpoint.read(folder), average)


def _prefixed(name: str) -> str:
    """A tensor's name in the published file."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _published(name: str, matrices: tuple[Matrix, ...], tensors: Mapping[str, Tensor], folder: str) -> Tensor:
    """The tensor of a published name, concatenated from its parts if transformers has split it."""
    if name in tensors:
        return tensors[name]
    for matrix in matrices:
        module = matrix.name.split(".")[0]
        if f".{matrix.name}." not in name:
            continue
        parts = [
            name.replace(f".{matrix.name}.", f".{TRANSFORMERS_MODULES[module]}.{part}_proj.") for part in matrix.parts
        ]
        if all(part in tensors for part in parts):
            return torch.cat([tensors[part] for part in parts])
    raise InputError(f"{folder}: tensor {name} is missing")
