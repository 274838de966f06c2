"""Which evaluation sets can be used by name? One per file, listed here."""

from __future__ import annotations

from filters.registry import Registry, expect
from pipelines.benchmarks.aime import AIME, AIME_2025
from pipelines.benchmarks.bbh import BBH
from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.competition_math import MATH
from pipelines.benchmarks.decon import DECON
from pipelines.benchmarks.drop import DROP
from pipelines.benchmarks.generated import GENERATED
from pipelines.benchmarks.gsm8k import GSM8K
from pipelines.benchmarks.hellaswag import HELLASWAG
from pipelines.benchmarks.humaneval import HUMANEVAL
from pipelines.benchmarks.items import ITEMS
from pipelines.benchmarks.mmlu import MMLU
from pipelines.benchmarks.mmlu_pro import MMLU_PRO
from pipelines.benchmarks.multiple_choice import ARC_CHALLENGE, ARC_EASY, BOOLQ, OPENBOOKQA, PIQA, SIQA, WINOGRANDE
from pipelines.benchmarks.rephrased import REPHRASED_HUMANEVAL, REPHRASED_MMLU

_ALL: tuple[Benchmark, ...] = (
    GENERATED,
    ITEMS,
    AIME,
    AIME_2025,
    ARC_CHALLENGE,
    ARC_EASY,
    BBH,
    BOOLQ,
    DECON,
    DROP,
    GSM8K,
    HELLASWAG,
    HUMANEVAL,
    MATH,
    MMLU,
    MMLU_PRO,
    OPENBOOKQA,
    PIQA,
    REPHRASED_HUMANEVAL,
    REPHRASED_MMLU,
    SIQA,
    WINOGRANDE,
)

BENCHMARKS: Registry[Benchmark] = Registry(
    "winnow.benchmarks",
    {benchmark.name: benchmark for benchmark in _ALL},
    expect(Benchmark, lambda benchmark: benchmark.name),
)
"""Name of a benchmark in recipes -> the evaluation set. Those of plugins are last."""

__all__ = ["BENCHMARKS", "Benchmark"]
