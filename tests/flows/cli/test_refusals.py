"""`train` and `evaluate` refuse mistakes before Prefect, Ray and, where it can be told without it, torch are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.configs import CONFIGS
from training.names import CONFIG_NAMES

LOADED = """
import atexit, json, sys
sys.argv = ["winnow", *sys.argv[1:]]
heavy = ("torch", "ray", "prefect")
atexit.register(lambda: print(json.dumps([name for name in heavy if name in sys.modules])))
from flows.cli.main import run
run()
"""


def refused(*words: str, folder: Path) -> tuple[str, list[str]]:
    """The message of a refused command, and which heavy packages it loaded."""
    done = subprocess.run([sys.executable, "-c", LOADED, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return done.stderr, loaded


def test_names_of_configurations_are_complete() -> None:
    assert tuple(CONFIGS) == CONFIG_NAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "latest", "--config", "huge"], "--config huge: known: b, experts, l, sft, tiny, xl, xxl, xxl_wide"),
        (["train", "latest", "--config", "tinny"], "--config tinny: did you mean 'tiny'?"),
        (["plan", "--train", "xll"], "--train xll: did you mean 'xl'?"),
        (["plan", "--train", "sft"], "--train sft: fine-tuning starts from a trained model; name it with --from"),
        (["train", "latest", "--config", "sft"], "--config sft: fine-tuning starts from a trained model"),
        (
            ["ablate", "a.yaml", "b.yaml", "--config", "sft"],
            "--config sft: known: b, experts, l, tiny, xl, xxl, xxl_wide",
        ),
        (["train", "nowhere"], "no runs here"),
        (["evaluate", "nowhere"], "nowhere: no such checkpoint; `winnow train latest"),
    ],
)
def test_a_wrong_name_is_refused_without_torch(tmp_path: Path, words: list[str], message: str) -> None:
    said, loaded = refused(*words, folder=tmp_path)
    assert message in said and not loaded


def test_a_folder_without_packs_is_refused_without_a_server(tmp_path: Path) -> None:
    said, loaded = refused("train", ".", folder=tmp_path)
    assert "must hold *.arrow pack shards" in said and {"ray", "prefect"}.isdisjoint(loaded)
