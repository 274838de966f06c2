"""Convert checkpoints to and from the folder format that transformers loads as `hrm_text`.

The parameters have the names of the published HRM-Text-1B file, so an export adds only the prefix `model.`.
transformers splits the fused matrices when it loads such a file. A file saved by transformers has them split; it can be
read too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.runs import run_that_made
from pipelines.steps import chat_tokenizer
from pipelines.steps.encoding import ENVELOPE, PADDING
from training import checkpoint
from training.folders import MANIFEST
from training.inference.chat import CONDITIONS, chat_template
from training.int4 import CODES_PER_WORD, GROUP, Int4Embedding, Int4Linear, quantized
from training.model import Block, HrmText, Matrix, ModelConfig
from training.routing import Experts, SelectiveHeads

TRANSFORMERS_MODULES = {"attn": "self_attn", "mlp": "mlp"}
"""A block's part as published -> its name in transformers."""

MODEL_TYPES = ("hrm_text", "hrm_text_routed")
"""`model_type` of the folders that are read here. The second is that of variants, whose code is in the folder."""

ROUTED_CODE = "modeling_hrm_text_routed"
"""The module that an export of a variant has beside its weights."""

CONTROL_TOKENS_FILE = "winnow.json"
"""In an exported folder: the ids of boq, eoq, eoa, pad and the conditions, and the context length."""


MAX_NEW_TOKENS = 256
"""The longest response by default, as of `winnow generate`."""


Weights = Literal["fp32", "int4", "int4-linear"]
"""How an export stores matrices. int4: four bits (training/int4.py). int4-linear: four bits, but the embedding in bf16,
because transformers 5.23 cannot load a quantized embedding of this architecture."""


def to_transformers(
    folder: str, out: str, average: bool = True, root: str | None = None, weights: Weights = "fp32"
) -> str:
    """Export a checkpoint (or a training folder's latest) for transformers; returns `out`.

    Writes model.safetensors, config.json, generation_config.json, the tokenizer with a chat template, and README.md, a
    model card. `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load the folder. The logits
    are equal. `apply_chat_template` gives the prompt of an instruction, with the prefix mask as `token_type_ids`.

    Args:
        out: a local folder or a URL.
        average: export the moving average of the weights, or else the last weights.
        root: where the run that made the packs is recorded. The card describes the corpus if it is there.
        weights: how the matrices are stored.

    Raises:
        CheckpointError: if there is no checkpoint.
        InputError: if `out` is not empty, transformers does not have the architecture, or the rows of a matrix cannot
            be divided into groups for four bits.
    """
    # Imported here: the facts of a run take half a second to import, and provenance imports this module.
    from training.model_card import model_card, read_scores
    from training.provenance import earlier_of

    source = checkpoint.read(folder)
    config, special = source.state.config, source.state.special
    if config.model.architecture != "hrm" or config.model.norm != "magic":
        raise InputError(
            f"{folder}: a {config.model.architecture} with {config.model.norm} norms; "
            "transformers has only the architecture hrm with magic norms, so nothing else can be exported"
        )
    if config.model.variant and weights != "fp32":
        raise InputError(
            f"{folder}: a model with {config.model.variant} is not stored in four bits; export it with `--format "
            "transformers`"
        )
    if storage.files(out) or storage.folders(out):
        raise InputError(f"{out} is not empty; export into a new folder")
    tokenizer = storage.read_json(storage.join(source.folder, "tokenizer.json"))
    run = run_that_made(root, source.state.run_key) if root else None
    prefix_lm = config.objective == "prefix_lm"
    # The scores of a checkpoint are not those of its weights in four bits.
    scores = read_scores(source, average, root) if root and weights == "fp32" else ()
    earlier = earlier_of(source.folder, root) if root else ()
    card = model_card(source, average, run, scores, _STORED[weights], earlier)
    try:
        tensors = _stored(checkpoint.read_model(source, average), weights)
    except ValueError as error:
        raise InputError(f"{folder}: cannot be stored in four bits: {error}") from None
    described = config_json(config.model, special, prefix_lm)
    if weights != "fp32":
        described |= {"dtype": "bfloat16", "quantization_config": _quantization(weights)}
    with storage.write_folder(out, last="config.json") as aside:
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        for name, value in {
            "config.json": described,
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
        if config.model.variant:
            code = Path(__file__).with_name(f"{ROUTED_CODE}.py")
            (aside / code.name).write_text(code.read_text(encoding="utf-8"), encoding="utf-8")
    return out


_STORED: dict[Weights, str] = {
    "fp32": "",
    "int4": "All matrices are stored in four bits, with a scale for each 128 weights of a row; `winnow` reads them.",
    "int4-linear": "All matrices but the embedding are stored in four bits, with a scale for each 128 weights of a "
    "row. transformers reads them with the package compressed-tensors.",
}


def _stored(model: HrmText, weights: Weights) -> dict[str, Tensor]:
    """The tensors of the file, by name."""
    if model.config.variant:  # transformers splits fused matrices of the plain model alone
        return _split(model)
    if weights == "fp32":
        return {_prefixed(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    matrices = Block.matrices(model.config)
    tensors = {"model.z_L_init": model.z_L_init}
    for name, layer in quantized(model, embedding=weights == "int4").named_modules():
        if isinstance(layer, nn.Embedding):
            tensors[f"{_prefixed(name)}.weight"] = layer.weight.detach().bfloat16()
        if not isinstance(layer, Int4Linear):
            continue
        parts = _part_names(f"{_prefixed(name)}.weight", matrices) or [f"{_prefixed(name)}.weight"]
        for part, words, scales in zip(
            parts, layer.words.chunk(len(parts)), layer.scales.chunk(len(parts)), strict=True
        ):
            tensors[f"{part}_packed"] = words.contiguous()
            tensors[f"{part}_scale"] = scales.contiguous()
            tensors[f"{part}_shape"] = torch.tensor([len(words), words.shape[1] * CODES_PER_WORD])
    return tensors


def _split(model: HrmText) -> dict[str, Tensor]:
    """The tensors under the names that the modules of transformers have."""
    matrices = Block.matrices(_plain(model.config))
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        names = _part_names(_prefixed(name), matrices) or [_in_transformers(_prefixed(name))]
        tensors |= {part: rows.contiguous() for part, rows in zip(names, tensor.chunk(len(names)), strict=True)}
    return tensors


def _plain(config: ModelConfig) -> ModelConfig:
    """The shape without routers."""
    return config.model_copy(update={"selective": SelectiveHeads(), "experts": Experts()})


def _quantization(weights: Weights) -> dict[str, Any]:
    """How config.json says what `_stored` wrote, in the words of compressed-tensors."""
    targets = ["Linear", "Embedding"] if weights == "int4" else ["Linear"]
    scheme = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": targets, "weights": scheme}},
        "ignore": [],
    }


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
    variant: dict[str, Any] = {}
    if config.variant:
        variant = {
            "architectures": ["HrmTextRoutedForCausalLM"],
            "model_type": "hrm_text_routed",
            "auto_map": {
                "AutoConfig": f"{ROUTED_CODE}.HrmTextRoutedConfig",
                "AutoModelForCausalLM": f"{ROUTED_CODE}.HrmTextRoutedForCausalLM",
            },
            "active_heads": config.selective.active,
            "shared_heads": config.selective.shared,
            "experts": config.experts.count,
            "active_experts": config.experts.active,
            "expert_size": config.experts.width,
            "balance_rate": config.experts.rate,
        }
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
        **variant,
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


def shape_of_transformers(folder: str) -> tuple[ModelConfig, bool]:
    """Of a folder of transformers: the shape of the model, and whether it reads prompts causally.

    Raises:
        InputError: if it is not an hrm_text folder.
    """
    try:
        config = storage.read_json(storage.join(folder, "config.json"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not a model folder of transformers ({error})") from None
    if config.get("model_type") not in MODEL_TYPES:
        raise InputError(f"{folder}: model_type is {config.get('model_type')!r}, not hrm_text")
    try:
        return _shape(config), not config.get("prefix_lm", True)
    except (KeyError, ValueError) as error:
        raise InputError(f"{folder}/config.json: not the shape of an HRM-Text ({error})") from None


def _shape(config: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig(
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
        selective=SelectiveHeads(active=config.get("active_heads", 0), shared=config.get("shared_heads", 0)),
        experts=_experts(config),
    )


def _experts(config: Mapping[str, Any]) -> Experts:
    if not config.get("experts"):
        return Experts()
    return Experts(
        count=config["experts"],
        active=config["active_experts"],
        width=config["expert_size"],
        rate=config["balance_rate"],
    )


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
    if config.get("model_type") not in MODEL_TYPES or not tensors:
        kind = config.get("model_type")
        raise InputError(f"{folder}: model_type is {kind!r} with {len(tensors)} tensors, not hrm_text")
    shape = _shape(config)
    with torch.device("meta"):
        model = HrmText(shape)
    matrices = Block.matrices(_plain(shape))
    if "quantization_config" in config:
        _check_quantization(config["quantization_config"], folder)
        for name, layer in list(model.named_modules()):
            if isinstance(layer, nn.Linear | nn.Embedding):
                _set_int4(model, name, tensors, matrices, folder)
    state = {
        name: _published(_prefixed(name), matrices, tensors, folder)
        for name in model.state_dict()
        if not isinstance(model.get_submodule(name.rpartition(".")[0]), Int4Linear)
    }
    state = {
        name: tensor.to(torch.bfloat16 if name == "z_L_init" else torch.float32)
        if tensor.is_floating_point()  # a router's tally is not
        else tensor
        for name, tensor in state.items()
    }
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in state}
    try:
        model.load_state_dict({**own, **state}, assign=True)
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


def _in_transformers(name: str) -> str:
    """A tensor's name in transformers, if it is not a part of a fused matrix."""
    for part, theirs in TRANSFORMERS_MODULES.items():
        name = name.replace(f".{part}.", f".{theirs}.")
    return name


def _check_quantization(described: Mapping[str, Any], folder: str) -> None:
    known = _quantization("int4")
    groups = described.get("config_groups", {}).values()
    schemes = [
        {key: group["weights"].get(key) for key in known["config_groups"]["group_0"]["weights"]} for group in groups
    ]
    form = described.get("quant_method"), described.get("format")
    if form != (known["quant_method"], known["format"]) or schemes != [known["config_groups"]["group_0"]["weights"]]:
        raise InputError(
            f"{folder}: its quantization ({form[0]}, {form[1]}) cannot be read; Winnow reads the format pack-quantized "
            f"of compressed-tensors with four bits in symmetric groups of {GROUP}, as `winnow export --format int4` has"
        )


def _set_int4(
    model: HrmText, name: str, tensors: Mapping[str, Tensor], matrices: tuple[Matrix, ...], folder: str
) -> None:
    """Replace a layer by one in four bits, if it is stored so."""
    weight = f"{_prefixed(name)}.weight"
    parts = _part_names(weight, matrices) or [weight]
    if f"{parts[0]}_packed" not in tensors:
        return
    try:
        words, scales = (torch.cat([tensors[f"{part}_{kind}"] for part in parts]) for kind in ("packed", "scale"))
    except KeyError as error:
        raise InputError(f"{folder}: tensor {error} is missing") from None
    layer = model.get_submodule(name)
    rows, k = layer.get_parameter("weight").shape
    if words.shape != (rows, k // CODES_PER_WORD) or scales.shape != (rows, k // GROUP):
        raise InputError(f"{folder}: {weight} does not match config.json: {tuple(words.shape)}, {tuple(scales.shape)}")
    kind = Int4Embedding if isinstance(layer, nn.Embedding) else Int4Linear
    model.set_submodule(name, kind(words, scales.half()))


def _part_names(name: str, matrices: tuple[Matrix, ...]) -> list[str]:
    """The names in transformers of the parts of a fused matrix; empty for another one."""
    for matrix in matrices:
        if f".{matrix.name}." in name:
            module = TRANSFORMERS_MODULES[matrix.name.split(".")[0]]
            return [name.replace(f".{matrix.name}.", f".{module}.{part}_proj.") for part in matrix.parts]
    return []


def _published(name: str, matrices: tuple[Matrix, ...], tensors: Mapping[str, Tensor], folder: str) -> Tensor:
    """The tensor of a published name, concatenated from its parts if transformers has split it."""
    for known in (name, _in_transformers(name)):
        if known in tensors:
            return tensors[known]
    parts = _part_names(name, matrices)
    if parts and all(part in tensors for part in parts):
        return torch.cat([tensors[part] for part in parts])
    raise InputError(f"{folder}: tensor {name} is missing")
