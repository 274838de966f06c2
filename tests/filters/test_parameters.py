"""Parameters are hashed into step keys, so their names are a format; recipes may use former names of parameters."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from filters.catalogue import STAGES, AnyStage
from filters.gopher_quality import GopherQuality
from filters.language import find_model
from filters.stage import RenamedKeyWarning, Stage
from pipelines.errors import RecipeError
from pipelines.recipe import load

ROOT = Path(__file__).parents[2]

HASHED: dict[str, dict[str, Any]] = {
    "repair": {"on": "both"},
    "thinking": {"drop": "unfinished", "families": [], "version": 4},
    "strip_thinking": {"mode": "strip", "bare_answer": "direct", "families": [], "version": 4},
    "strip_signature": {},
    "mask_pii": {"on": "both", "kinds": ["email", "phone", "ip", "card", "iban"], "keep_examples": True},
    "pii": {"on": "both", "kinds": ["email", "phone", "ip", "card", "iban"], "keep_examples": True},
    "placeholder": {"version": 4},
    "length": {"on": "both", "min_chars": 0, "max_chars": 32768},
    "control": {
        "on": "both", "max_control": 0, "max_replacement": 0, "max_private": 0, "max_mojibake_chars": 0,
        "max_hidden_chars": 0, "max_invisible": 0.05, "version": 2,
    },
    "script": {"on": "both", "scripts": ["latin", "greek"], "max_share": 0.3, "version": 3},
    "language": {
        "on": "both", "languages": ["en"], "min_confidence": 0.65, "min_chars": 40, "prefix_chars": 200,
        "model": "878066447208b1a15ffa5afe44276b0f", "version": 4,
    },
    "refusal": {"on": "response", "prefix_chars": 240, "version": 3},
    "truncated": {"on": "response", "min_words": 5, "version": 5},
    "loop": {"on": "response", "min_repeats": 6, "min_bytes": 120, "version": 3},
    "echo": {"min_chars": 24, "version": 2},
    "urls": {"on": "response", "max_share": 0.9, "version": 2},
    "c4": {
        "on": "response", "lorem_ipsum": True, "javascript_notice": True, "policy_notice": True, "curly_bracket": False,
        "version": 2,
    },
    "fineweb": {"on": "response", "max_duplicate_line_characters": 0.2, "min_lines": 10, "version": 3},
    "gopher_quality": {
        "on": "both", "min_words": 50, "max_words": 100000, "min_word_length": 3.0, "max_word_length": 10.0,
        "max_symbols": 0.1, "max_bullet_lines": 0.9, "max_ellipsis_lines": 0.3, "min_alphabetic_words": 0.8,
        "min_stop_words": 2,
    },
    "gopher_repetition": {
        "on": "response", "min_words": 150, "duplicate_lines": 0.3, "duplicate_paragraphs": 0.3,
        "duplicate_line_characters": 0.2, "duplicate_paragraph_characters": 0.2, "top_2_gram": 0.4, "top_3_gram": 0.36,
        "top_4_gram": 0.32, "duplicate_5_grams": 0.3, "duplicate_6_grams": 0.28, "duplicate_7_grams": 0.26,
        "duplicate_8_grams": 0.24, "duplicate_9_grams": 0.22, "duplicate_10_grams": 0.2, "version": 4,
    },
}  # fmt: skip
"""What `parameters` returns for the defaults of each stage, beside `kind` and a `version` of 1: written down, never
computed. A difference gives every corpus new step keys."""

RENAMED = [(kind, former, name) for kind, stage in STAGES.items() for former, name in stage.RENAMED_KEYS.items()]


@pytest.mark.parametrize("kind", STAGES)
def test_hashed_parameters_are_those_of_every_earlier_release(kind: str) -> None:
    assert STAGES[kind]().parameters() == {"kind": kind, "version": 1, **HASHED[kind]}


def test_there_are_hashed_parameters_of_every_stage() -> None:
    assert HASHED.keys() == STAGES.keys()
    assert find_model(None).name == "lid.176.ftz"  # whose digest is above


@pytest.mark.parametrize(("kind", "former", "name"), RENAMED)
def test_a_former_name_sets_the_parameter_and_warns_with_both_names(kind: str, former: str, name: str) -> None:
    value = 7 if isinstance(default := getattr(STAGES[kind](), name), int) else default / 1.25
    adapter: TypeAdapter[Stage] = TypeAdapter(AnyStage)
    with pytest.warns(RenamedKeyWarning, match=f"^stage {kind}: `{former}` is now called `{name}`"):
        stage = adapter.validate_python({"kind": kind, former: value})
    assert getattr(stage, name) == value
    assert stage == adapter.validate_python({"kind": kind, name: value})
    assert stage.parameters()[former] == value and name not in stage.parameters()


@pytest.mark.parametrize(("kind", "former", "name"), RENAMED)
def test_both_names_of_a_parameter_at_once_are_an_error(kind: str, former: str, name: str) -> None:
    for keys in itertools.permutations((former, name)):
        with pytest.raises(ValidationError, match=f"`{former}` is the former name of `{name}`"):
            STAGES[kind].model_validate(dict.fromkeys(keys, 1))


@pytest.mark.parametrize("kind", STAGES)
def test_former_names_are_no_longer_parameters_and_new_names_are(kind: str) -> None:
    stage = STAGES[kind]
    assert not stage.RENAMED_KEYS.keys() & stage.model_fields.keys()
    assert set(stage.RENAMED_KEYS.values()) <= stage.model_fields.keys()
    assert len(set(stage.RENAMED_KEYS.values())) == len(stage.RENAMED_KEYS)


RECIPE = """\
name: words
sources:
  - {{name: mine, path: rows.jsonl, columns: {{instruction: q, response: a}}, condition: direct}}
stages:
  - {{kind: gopher_quality, {key}: 0.5}}
"""


def write_recipe(folder: Path, key: str) -> str:
    (folder / "rows.jsonl").write_text('{"q": "Six times seven?", "a": "42"}\n', encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(key=key), encoding="utf-8")
    return str(path)


def test_a_recipe_with_a_former_name_is_read_as_one_with_the_new_name(tmp_path: Path) -> None:
    with pytest.warns(RenamedKeyWarning, match="`max_bullet_lines` is now called `max_bullet_line_ratio`"):
        former = load(write_recipe(tmp_path, "max_bullet_lines"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(write_recipe(tmp_path, "max_bullet_line_ratio")) == former
    assert former.stages == (GopherQuality(max_bullet_line_ratio=0.5),)
    with pytest.raises(RecipeError, match=r"max_bullet_lin.*nearest|max_bullet_lin"):
        load(write_recipe(tmp_path, "max_bullet_lin"))


def test_on_the_command_line_a_former_name_is_one_line_and_no_failure(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "max_bullet_lines")
    command = [sys.executable, "-m", "flows.cli.main", "plan", recipe]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "max_bullet_lines" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: ")
    assert "Traceback" not in done.stderr and ".py" not in done.stderr
