"""Every data set that Winnow reads by name, one per file: the list."""

from __future__ import annotations

from pipelines.sources.competition_math import MATH
from pipelines.sources.deepscaler_aime import DEEPSCALER_AIME
from pipelines.sources.flan_cot import FLAN_COT
from pipelines.sources.generated import GENERATED
from pipelines.sources.gpteacher import GPTEACHER
from pipelines.sources.gsm8k import GSM8K
from pipelines.sources.llm_adapters import ARC_CHALLENGE, BOOLQ, OPENBOOKQA
from pipelines.sources.lrm_token_economy import LRM_TOKEN_ECONOMY
from pipelines.sources.marco_o1 import MARCO_O1
from pipelines.sources.mawps_asdiv_svamp import MAWPS_ASDIV_SVAMP
from pipelines.sources.reasoning_gym_eval import REASONING_GYM_EVAL
from pipelines.sources.scibench import SCIBENCH
from pipelines.sources.self_instruct_seeds import SELF_INSTRUCT_SEEDS
from pipelines.sources.source import Source
from pipelines.sources.t0_p3 import T0_P3
from pipelines.sources.theoremqa import THEOREMQA

_ALL: tuple[Source, ...] = (
    *GENERATED,
    MATH,
    DEEPSCALER_AIME,
    FLAN_COT,
    GPTEACHER,
    GSM8K,
    ARC_CHALLENGE,
    BOOLQ,
    OPENBOOKQA,
    LRM_TOKEN_ECONOMY,
    MARCO_O1,
    MAWPS_ASDIV_SVAMP,
    REASONING_GYM_EVAL,
    SCIBENCH,
    SELF_INSTRUCT_SEEDS,
    T0_P3,
    THEOREMQA,
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""A recipe's `adapter` -> the source."""

__all__ = ["SOURCES", "Source"]
