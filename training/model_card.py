"""The model card of an exported checkpoint: README.md with YAML metadata, written from the ledger.

The card states what the files say: the training, the corpus of the recorded run that made the packs, what was found of
the benchmarks, and the scores. It contains no times and no paths, so that equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from pipelines.audit.report import facts
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from training import journal
from training.checkpoint import Checkpoint
from training.cost import parameters
from training.evaluation import store
from training.export import ROUTED_CODE

if TYPE_CHECKING:
    from training.provenance import Earlier


class CardScore(NamedTuple):
    """A score of the checkpoint: shares from 0 to 1, with the ends of its 95 % interval.

    asked: how the items were asked, in words.
    """

    benchmark: str
    asked: str
    scorer: str
    items: int
    score: float
    low: float
    high: float


def read_scores(source: Checkpoint, average: bool, root: str) -> list[CardScore]:
    """The scores in the finished evaluations below `root` of exactly these weights, by each scorer."""
    from training.inference.checkpoint_model import model_identity  # it imports the exporter

    identity = model_identity(source.folder, average)
    scores: list[CardScore] = []
    for folder in store.evaluations(root):
        settings, path = store.read_settings(folder), storage.join(folder, store.SCORES)
        if settings.identity != identity or not storage.exists(path):
            continue
        asked = f"{settings.condition}, {settings.shots} shots, {settings.method}, {settings.strategy}"
        for scorer, score in storage.read_json(path)["scorers"].items():
            interval = score.get("clustered") or score
            if score["n"]:
                ends = interval["low"], interval["high"]
                scores.append(CardScore(settings.benchmark, asked, scorer, score["n"], score["score"], *ends))
    return scores


def model_card(
    source: Checkpoint,
    average: bool,
    run: RecordedRun | None,
    scores: Sequence[CardScore] = (),
    stored: str = "",
    earlier: Sequence[Earlier] = (),
) -> str:
    """The card, in Markdown.

    average: whether the moving average of the weights is exported. run: the recorded run that made the packs, None if
    it is not at hand. stored: a sentence on how the weights are stored. earlier: the models that this one was made
    from, with the runs of their packs, the last one first.
    """
    state = source.state
    name = f"{state.config.name}-step-{state.step}"
    known = facts(run) if run else None
    parts = [
        f"---\n{yaml.safe_dump(_metadata(name, scores), sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        f"{_summary(source, average)} {stored}".strip(),
        _usage(state.config.model.variant),
        _training(source),
        *(_corpus(known) if known else [_no_corpus(state.run_key)]),
        *(part for one in earlier for part in _earlier(one)),
        _evaluation(scores),
        _limits(state.context),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(name: str, scores: Sequence[CardScore]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "see-the-table-of-sources",
        "tags": ["hrm_text", "prefix-lm", "winnow"],
    }
    if scores:
        results = [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": score.benchmark, "type": score.benchmark},
                "metrics": [{"type": "accuracy", "name": score.scorer, "value": round(score.score, 6)}],
            }
            for score in scores
        ]
        metadata["model-index"] = [{"name": name, "results": results}]
    return metadata


def _summary(source: Checkpoint, average: bool) -> str:
    state = source.state
    model = state.config.model
    weights = "moving average of the weights" if average else "last weights"
    mask = "bidirectional over the instruction, causal over the response (PrefixLM)"
    return (
        f"HRM-Text with {parameters(model):,} parameters, trained with Winnow on instructions and their responses. "
        f"These are the {weights} after step {state.step:,} of {state.total_steps:,}. "
        f"Attention is {mask if state.config.objective == 'prefix_lm' else 'causal'}. "
        f"Instruction and response together have at most {state.context:,} tokens."
    )


def _usage(variant: str | None) -> str:
    text = _USAGE
    if variant:
        text = text.replace('LM.from_pretrained("FOLDER")', 'LM.from_pretrained("FOLDER", trust_remote_code=True)')
        text += f"\n\ntransformers has no model with {variant}: its code is in this folder, `{ROUTED_CODE}.py`."
    return text


_USAGE = """\
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
messages = [{"role": "user", "content": "What is 7 + 5?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

The template writes the envelope of an instruction. `condition="synth,cot"` chooses the condition: `direct` (the
default), `cot`, `noisy`, `synth`, or several joined by commas. For a batch, pass a list of conversations and
`padding=True`. A conversation of several turns, or a system prompt, is refused, because training contains neither.

`token_type_ids` is the prefix mask: 1 on the tokens of the prompt, 0 on those of a response. Without it the prompt is
read causally, which the model was not trained for. The tokenizer gives 1 to all that it encodes; of a pair of texts it
gives 0 to the second."""


def _training(source: Checkpoint) -> str:
    state = source.state
    config, model = state.config, state.config.model
    lines = journal.read_metrics(source.folder.rstrip("/").rpartition("/")[0])
    lines = [line for line in lines if line["step"] <= state.step]
    rows: list[tuple[str, str]] = [
        ("configuration", f"`{config.name}`, {model.architecture}, {model.norm} norms"),
        (
            "shape",
            f"hidden {model.hidden}, {model.heads} heads, feed-forward {model.feed_forward}, {model.blocks} blocks per "
            f"module, {model.high_cycles} x ({model.low_cycles} + 1) module calls, vocabulary {model.vocab_size:,}",
        ),
        (
            "steps",
            f"{state.step:,} of {state.total_steps:,}, {config.batch_packs} packs each, {state.cursor:,} packs in all",
        ),
    ]
    if lines:
        inputs, labels = (sum(line[name] for line in lines) for name in ("inputs", "labels"))
        rows.append(("tokens read", f"{inputs:,}, of which {labels:,} of responses"))
        rows.append(
            (
                "training loss",
                f"{journal.mean_loss(lines[-50:]):.4f} nats per token, mean of the last {len(lines[-50:])} steps",
            )
        )
        held_out = [line["validation_loss"] for line in lines if line.get("validation_loss") is not None]
        if held_out:
            rows.append(("held-out loss", f"{held_out[-1]:.4f} nats per token"))
    if state.start is not None:
        rows.append(("started from", "; which started from ".join(map(str, state.start.chain()))))
    rows += [
        (
            "optimiser",
            f"Adam-atan2, learning rate {config.lr:g}, {config.warmup_steps:,} warm-up steps, betas "
            f"{config.betas[0]:g} and {config.betas[1]:g}, weight decay {config.weight_decay:g}, "
            f"average {config.ema_decay:g}",
        ),
        ("precision, seed", f"{config.precision}, {config.seed}"),
        ("packs", f"`{state.run_key}`"),
        *((f"digest of `{file}`", f"`{digest}`") for file, digest in sorted(state.digests.items())),
    ]
    return "## Training\n\n" + _table(("", ""), rows)


def _earlier(one: Earlier) -> list[str]:
    """The corpus of a model that this one started from."""
    title = "Corpus of the model that the training started from"
    if one.run is not None:
        return _corpus(facts(one.run), title)
    return [f"## {title}\n\nIt is {one.start}. The run that made its training data was not at hand."]


def _no_corpus(key: str) -> str:
    return f"## Corpus\n\nThe recorded run that made the packs (`{key}`) was not at hand when this card was written."


def _corpus(known: Mapping[str, Any], title: str = "Corpus") -> list[str]:
    drawn = {line["source"]: line for line in known["coverage"]}
    sources = [
        (
            f"{_cell(source['name'])}: {_cell(source['title'])}",
            _cell(source["licence"]) or "not recorded",
            f"{source['rows_in']:,}",
            f"{source['kept']:,}",
            f"{drawn[source['name']]['drawn_tokens']:,}" if source["name"] in drawn else "0",
        )
        for source in known["sources"]
    ]
    steps = [
        (line["step"], f"{line['rows_in']:,}", f"{line['kept']:,}", f"{line['dropped']:,}") for line in known["funnel"]
    ]
    corpus = (
        f"## {title}\n\nRun `{known['run']}` of the recipe `{known['recipe']}`: {known['rows_in']:,} rows read, "
        f"{known['rows_kept']:,} kept, {known['tokens']:,} tokens drawn. The run has the reason and evidence of every "
        "dropped row.\n\n"
        + _table(("source", "licence", "rows read", "rows kept", "tokens drawn"), sources)
        + "\n\nThe licences are those that the pages of the sources name.\n\n"
        + _table(("step", "rows in", "rows kept", "rows dropped"), steps)
    )
    return [corpus, _contamination(known["contamination"])]


def _contamination(checked: Mapping[str, Any] | None) -> str:
    title = "## Contamination\n\n"
    if not checked or not checked["benchmarks"]:
        return f"{title}The corpus was checked against no benchmark."
    rows = [
        (
            line["benchmark"],
            f"{line['items']:,}",
            f"{line['contaminated']:,}",
            f"{line['remaining']:,}",
            "not recorded" if line["drawn"] is None else f"{line['drawn']:,}",
        )
        for line in checked["benchmarks"]
    ]
    return (
        f"{title}Benchmark items found in the corpus by the rule `{checked['rule']}`. Classes of rows dropped: "
        f"{', '.join(checked['drop']) or 'none'}.\n\n"
        + _table(
            ("benchmark", "items", "found", "found after dropping", "found in rows drawn"),
            rows,
        )
    )


def _evaluation(scores: Sequence[CardScore]) -> str:
    if not scores:
        return "## Evaluation\n\nNo score of this checkpoint is recorded."
    rows = [
        (*line[:3], f"{line.items:,}", f"{line.score:.1%}", f"{line.low:.1%} to {line.high:.1%}") for line in scores
    ]
    return "## Evaluation\n\n" + _table(("benchmark", "asked", "scorer", "items", "score", "95 % interval"), rows)


def _limits(context: int) -> str:
    return f"""\
## Limits

- The model answers one instruction. It was not trained on conversations, tools or system prompts, and had no safety
  tuning.
- Instruction and response share {context:,} tokens.
- Answers may be wrong. The scores above hold for prompts of these benchmarks alone.
- llama.cpp reads prompts of this architecture causally, so no GGUF file is provided."""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
