"""Checkpoints to and from the folder that transformers loads as `hrm_text`.

Our parameters carry the names of the published HRM-Text-1B file, so an export is the weights with `model.` before them.
transformers splits the fused matrices when it loads such a file; one that it has saved itself has them split already,
and is read back all the same.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import InputError
from pipelines.steps.encoding import ENVELOPE, PADDING
from training import checkpoint
from training.model import HrmText, ModelConfig

FUSED = {
    ".attn.gqkv_proj.": (".self_attn.gate_proj.", ".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."),
    ".mlp.gate_up_proj.": (".mlp.gate_proj.", ".mlp.up_proj."),
    ".attn.o_proj.": (".self_attn.o_proj.",),
}
"""A matrix as published -> the matrices that transformers has in memory, in order of rows."""


ROLES_FILE = "winnow.json"
"""Beside an exported model: which token is boq, eoq, eoa, pad and each condition, and the context."""


def to_transformers(folder: str, out: str, average: bool = True) -> Path:
    """Write a checkpoint (or a run's latest) as model.safetensors, config.json and tokenizer files that
    `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load; logits are equal.

    average: the moving average of the weights, or the last ones. Raises CheckpointError where there is no checkpoint,
    InputError where `out` holds something already, or the model is one that transformers does not have.
    """
    found = checkpoint.read(Path(folder))
    config = found.progress.config
    if config.model.architecture != "hrm" or config.model.norm != "magic":
        raise InputError(
            f"{folder}: a {config.model.architecture} with {config.model.norm} norms; "
            "transformers' hrm_text is an hrm with magic ones, so only that can be exported"
        )
    target = Path(out)
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{out} is not empty; export into a new folder")
    aside = target.with_name(f".{target.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model, special = checkpoint.load_model(found, average), found.progress.special
    tensors = {_prefixed(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
    described = config_json(config.model, special, config.objective == "prefix_lm")
    (aside / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    tokenizer = json.loads((found.folder / "tokenizer.json").read_text())
    names = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": found.progress.context - 1,
        "bos_token": names[special["boq"]],
        "eos_token": names[special["eoa"]],
        "pad_token": names[special["pad"]],
    }
    (aside / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")
    shutil.copyfile(found.folder / "tokenizer.json", aside / "tokenizer.json")
    (aside / ROLES_FILE).write_text(json.dumps({"special": special, "context": found.progress.context}) + "\n")
    if target.exists():
        target.rmdir()
    aside.rename(target)
    return target


def config_json(config: ModelConfig, special: Mapping[str, int], prefix_lm: bool = True) -> dict[str, Any]:
    """transformers' configuration of a model. `num_hidden_layers` is the number of blocks of ONE module."""
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
        # Per H cycle, the last so many L calls are differentiated; both H calls are. That is our bp_steps = 5.
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
    """Whether a folder holds a model as transformers has it, rather than a checkpoint."""
    return (Path(folder) / "config.json").is_file() and not (Path(folder) / "checkpoint.json").exists()


def roles(folder: str) -> tuple[dict[str, int], int, bool]:
    """Of a model folder: its control tokens by role, the context, and whether prompts are read left to right.

    A folder that was not exported here has HRM-Text's tokens. Raises InputError where they are not in its tokenizer.
    """
    source = Path(folder)
    try:
        said = json.loads((source / "config.json").read_text())
        tokenizer = json.loads((source / "tokenizer.json").read_text())
        if (source / ROLES_FILE).exists():
            own = json.loads((source / ROLES_FILE).read_text())
            return own["special"], own["context"], not said.get("prefix_lm", True)
        ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        special = {role: ids[name] for role, name in ENVELOPE.items()}
        special["pad"] = next(ids[name] for name in PADDING if name in ids)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise InputError(f"{folder}: its tokenizer does not say how to ask HRM-Text ({error})") from None
    return special, said["max_position_embeddings"] + 1, not said.get("prefix_lm", True)


def from_transformers(folder: str) -> HrmText:
    """The model, in float32, of a folder that transformers can load: exported here, published, or saved by it.

    Raises InputError where it is not an hrm_text folder.
    """
    source = Path(folder)
    try:
        said = json.loads((source / "config.json").read_text())
        shards = sorted(source.glob("*.safetensors"))
        tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: not a model folder of transformers ({error})") from None
    if said.get("model_type") != "hrm_text" or not tensors:
        kind = said.get("model_type")
        raise InputError(f"{folder}: model_type is {kind!r} with {len(tensors)} tensors, not hrm_text")
    config = ModelConfig(
        vocab_size=said["vocab_size"],
        hidden=said["hidden_size"],
        heads=said["num_attention_heads"],
        feed_forward=said["intermediate_size"],
        # transformers writes the number of attention calls into num_hidden_layers when it saves.
        blocks=said.get("num_layers_per_stack") or said["num_hidden_layers"],
        high_cycles=said["H_cycles"],
        low_cycles=said["L_cycles"],
        rope_theta=(said.get("rope_parameters") or {}).get("rope_theta", 10_000.0),
        max_positions=said["max_position_embeddings"],
    )
    with torch.device("meta"):
        model = HrmText(config)
    state = {name: _find(_prefixed(name), tensors, folder) for name in model.state_dict()}
    state = {name: tensor.to(torch.bfloat16 if name == "z_L_init" else torch.float32) for name, tensor in state.items()}
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(f"{folder}: the tensors are not those of its config.json: {error}") from None
    return model.eval().requires_grad_(False)


def load_weights(folder: str, average: bool = True) -> HrmText:
    """The model, in float32, of a checkpoint (its moving average, or its last weights) or of a folder that transformers
    can load. Raises InputError, or CheckpointError, where it is neither."""
    if is_transformers(folder):
        return from_transformers(folder)
    return checkpoint.load_model(checkpoint.read(Path(folder)), average)


def _prefixed(name: str) -> str:
    """Our name of a tensor as the published file has it."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _find(name: str, tensors: Mapping[str, Tensor], folder: str) -> Tensor:
    """The tensor of that published name, joined from its parts where transformers has split it."""
    if name in tensors:
        return tensors[name]
    for whole, parts in FUSED.items():
        split = [name.replace(whole, part) for part in parts]
        if whole in name and all(part in tensors for part in split):
            return torch.cat([tensors[part] for part in split])
    raise InputError(f"{folder}: it has no tensor {name}")
