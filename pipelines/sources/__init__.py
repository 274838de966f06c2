"""Which data sets can be used by name? One per file, listed here."""

from __future__ import annotations

from filters.registry import Registry, expect
from pipelines.sources.acereason import ACEREASON
from pipelines.sources.amps_khan import AMPS_KHAN
from pipelines.sources.amps_mathematica import AMPS_MATHEMATICA
from pipelines.sources.arb import ARB
from pipelines.sources.competition_math import MATH
from pipelines.sources.deepscaler_aime import DEEPSCALER_AIME
from pipelines.sources.dmmath import DMMATH
from pipelines.sources.flan import FLAN
from pipelines.sources.flan_cot import FLAN_COT
from pipelines.sources.generated import GENERATED
from pipelines.sources.gpteacher import GPTEACHER
from pipelines.sources.gsm8k import GSM8K
from pipelines.sources.llm_adapters import ARC_CHALLENGE, BOOLQ
from pipelines.sources.lrm_token_economy import LRM_TOKEN_ECONOMY
from pipelines.sources.marco_o1 import MARCO_O1
from pipelines.sources.mawps_asdiv_svamp import MAWPS_ASDIV_SVAMP
from pipelines.sources.natural_reasoning import NATURAL_REASONING
from pipelines.sources.no_robots import NO_ROBOTS
from pipelines.sources.numinamath import NUMINAMATH
from pipelines.sources.omnimath import OMNIMATH
from pipelines.sources.openbookqa import OPENBOOKQA
from pipelines.sources.openmathinstruct2 import OPENMATHINSTRUCT2
from pipelines.sources.openthoughts2 import OPENTHOUGHTS2
from pipelines.sources.principia import PRINCIPIA
from pipelines.sources.reasoning_gym_eval import REASONING_GYM_EVAL
from pipelines.sources.reclor import RECLOR
from pipelines.sources.scibench import SCIBENCH
from pipelines.sources.scienceqa import SCIENCEQA
from pipelines.sources.self_instruct_seeds import SELF_INSTRUCT_SEEDS
from pipelines.sources.source import Source
from pipelines.sources.sudoku_extreme import SUDOKU_EXTREME
from pipelines.sources.synth import SYNTH
from pipelines.sources.t0_p3 import T0_P3
from pipelines.sources.tasksource import TASKSOURCE
from pipelines.sources.textbookreasoning import TEXTBOOKREASONING
from pipelines.sources.theoremqa import THEOREMQA
from pipelines.sources.webinstruct_verified import WEBINSTRUCT_VERIFIED

_ALL: tuple[Source, ...] = (
    *GENERATED,
    # The sources of HRM-Text, in the order of its parts.
    FLAN,
    TASKSOURCE,
    NO_ROBOTS,
    SYNTH,
    ARB,
    OPENBOOKQA,
    RECLOR,
    SCIBENCH,
    SCIENCEQA,
    THEOREMQA,
    PRINCIPIA,
    OPENMATHINSTRUCT2,
    NUMINAMATH,
    OMNIMATH,
    DMMATH,
    AMPS_MATHEMATICA,
    SUDOKU_EXTREME,
    ACEREASON,
    OPENTHOUGHTS2,
    TEXTBOOKREASONING,
    NATURAL_REASONING,
    WEBINSTRUCT_VERIFIED,
    AMPS_KHAN,
    GSM8K,
    MATH,
    # Others.
    DEEPSCALER_AIME,
    FLAN_COT,
    GPTEACHER,
    ARC_CHALLENGE,
    BOOLQ,
    LRM_TOKEN_ECONOMY,
    MARCO_O1,
    MAWPS_ASDIV_SVAMP,
    REASONING_GYM_EVAL,
    SELF_INSTRUCT_SEEDS,
    T0_P3,
)

SOURCES: Registry[Source] = Registry(
    "winnow.sources", {source.name: source for source in _ALL}, expect(Source, lambda source: source.name)
)
"""`adapter` in recipes -> the source. Those of plugins are last."""

__all__ = ["SOURCES", "Source"]
