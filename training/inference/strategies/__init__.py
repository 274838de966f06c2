"""How is an answer found with more than one call of the model? One strategy per file, listed here."""

from __future__ import annotations

from filters.registry import Registry
from pipelines.errors import WinnowError, nearest
from pipelines.validation import validate
from training.inference.strategies.adaptive_consistency import AdaptiveConsistency
from training.inference.strategies.greedy import Greedy
from training.inference.strategies.self_consistency import SelfConsistency
from training.inference.strategies.self_refine import SelfRefine
from training.inference.strategies.spiral import Spiral
from training.inference.strategies.strategy import Question, Sampling, Strategy


def _problem(name: str, thing: object) -> str:
    if not (isinstance(thing, type) and issubclass(thing, Strategy)):
        return f"expected a class derived from Strategy, not {type(thing).__name__}"
    return "" if thing.name == name else f"its name is {thing.name!r}, and must be that of the entry point"


_ALL: tuple[type[Strategy], ...] = (Greedy, SelfConsistency, AdaptiveConsistency, SelfRefine, Spiral)

STRATEGIES: Registry[type[Strategy]] = Registry(
    "winnow.strategies", {strategy.name: strategy for strategy in _ALL}, _problem
)
"""A strategy's name -> its class. Those of plugins are last."""


def parse(text: str) -> Strategy:
    """The strategy of a text such as `greedy` or `self-consistency:n=8,temperature=0.6`.

    Raises:
        WinnowError: if the name or a parameter is unknown, a parameter is given twice, or a value does not fit.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    if name not in STRATEGIES:
        raise WinnowError(f"strategy {name!r}: {nearest(name, STRATEGIES)}")
    parameters: dict[str, str] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = (side.strip() for side in part.partition("="))
        if not (key and equals and value):
            raise WinnowError(f"strategy {text!r}: expected parameter=value, got {part.strip()!r}")
        if key in parameters:
            raise WinnowError(f"strategy {text!r}: {key} is given twice")
        parameters[key] = value
    kind = STRATEGIES[name]
    if parameters and not kind.model_fields:
        raise WinnowError(f"strategy {text!r}: {name} has no parameters")
    strategy, problems = validate(kind, parameters)
    if strategy is None:
        raise WinnowError(f"strategy {text!r}: " + "; ".join(problem.message for problem in problems))
    return strategy


__all__ = ["STRATEGIES", "Question", "Sampling", "Strategy", "parse"]
