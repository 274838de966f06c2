"""What do the parameters of flows accept? The run form of Prefect's UI shows these types, bounds and lists.

A root that is not given is resolved where the flow runs: the schema is computed where it is deployed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flows.execute import EngineName
from pipelines.recipe import RECIPES
from training.names import TRAINING_NAMES

_INSTALLED = tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))
_Positive = Annotated[int, Field(ge=1)]

Recipe = Annotated[
    Annotated[Literal[_INSTALLED], Field(title="installed")]  # type: ignore[valid-type]
    | Annotated[str, Field(title="path or URL")],
    Field(
        description="A recipe that is installed with Winnow, or the path or URL of a YAML file as the worker sees it.",
    ),
]
Root = Annotated[
    str | None,
    Field(
        description="Folder or object-store URL of steps and runs. Default: WINNOW_ROOT of the worker, else "
        "`./winnow-data`.",
    ),
]
Engine = Annotated[
    EngineName,
    Field(
        description="`ray`: the cluster of RAY_ADDRESS, or the worker's machine. `local`: a pool of processes there.",
    ),
]
Workers = Annotated[
    _Positive | None,
    Field(description="Shards processed at a time. Default: one per CPU."),
]
Memory = Annotated[
    _Positive | None,
    Field(description="Bytes that each worker may hold; one that holds more ends the run. Default: no limit."),
]
Settings = Annotated[
    tuple[str, ...],
    Field(description="Overrides of keys of the recipe, `near_duplicates.response=0.7`."),
]
Against = Annotated[
    tuple[str, ...],
    Field(
        description="Earlier runs whose rows count as already present, so that only new rows are kept: run ids, or a "
        "pattern such as `demo-*` for all runs recorded so far. They replace the recipe's `against`.",
    ),
]
FromStep = Annotated[
    str | None,
    Field(
        description="Make this step and all that follow again (`ingest`, `near-duplicates`, `tokens`, `pack` ...), "
        "though they are finished. The bytes will be the same. Default: make only what is not finished.",
    ),
]
RunId = Annotated[
    str,
    Field(description="A run's id, a unique prefix of it, `latest`, or a folder of packs."),
]
Config = Annotated[
    Literal[TRAINING_NAMES],  # type: ignore[valid-type]
    Field(description="Size of the model and its training. `sft` fine-tunes the model that the training starts from."),
]
Start = Annotated[
    str | None,
    Field(
        description="The model to start from: a checkpoint's folder, a training folder, `latest`, or a transformers "
        "folder. Default: initial weights by the seed.",
    ),
]
TrainSettings = Annotated[
    tuple[str, ...],
    Field(description="Overrides of keys of the configuration, `lr=2e-4`, `checkpoint_minutes=5`."),
]
TrainWorkers = Annotated[
    _Positive | None,
    Field(description="Ray Train workers. Default: one per GPU, or two on CPUs."),
]
Steps = Annotated[
    _Positive | None,
    Field(description="Stop after this many optimizer steps. Default: all epochs of the packs."),
]
Out = Annotated[
    str | None,
    Field(description="For checkpoints and metrics. Default: `training/` below the root."),
]
Benchmarks = Annotated[
    tuple[str, ...],
    Field(
        description="Such as `gsm8k`. Default: all that the corpus was checked against and that can be scored.",
    ),
]
Limit = Annotated[
    _Positive | None,
    Field(description="Ask only this many items of each benchmark, the first ones."),
]
Batch = Annotated[int, Field(ge=1, description="Largest number of questions answered together.")]
