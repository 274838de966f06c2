"""ARC, easy set: asked and scored as the challenge set."""

from __future__ import annotations

from training.evaluation.choices import multiple_choice
from training.evaluation.tasks.arc_challenge import query

ARC_EASY = multiple_choice("arc_easy", query, shots=25)
