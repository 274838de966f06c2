"""Which commands are those of other tools, with Winnow's models in them? lm-eval."""

from __future__ import annotations

import importlib.util
import sys

import typer

from flows.styled import own_stderr
from pipelines.errors import WinnowError

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""Settings of a command that hands its arguments over as they are."""


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's command `lm-eval` with the model `winnow`, which is a checkpoint.

    All arguments are lm-eval's: `winnow lm-eval run --help`. Keys of `--model_args` are pretrained, condition
    (`synth+cot` for several tags), precision, max_length, max_gen_toks, weights. Needs the extra `lm-eval`.

    Example: `winnow lm-eval run --model winnow --model_args pretrained=CHECKPOINT,condition=direct --tasks arc_easy`
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise WinnowError("lm-eval is not installed: pip install 'winnow-corpus[lm-eval]'")
    from training.evaluation.lm_eval import main

    sys.stderr = own_stderr()  # lm-eval draws bars on it
    main(context.args)
