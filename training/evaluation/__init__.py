"""How benchmarks are asked and judged: one per file, and `scores.evaluate` for all of them."""

from training.evaluation.scores import EVALUATIONS, Held, Score, Scores, evaluate

__all__ = ["EVALUATIONS", "Held", "Score", "Scores", "evaluate"]
