"""What does a checkpoint answer to one instruction?"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from training.finding import find_checkpoint
from training.inference.generate import answer, load


class GenerateAnswer(BaseModel):
    """A generated response. `winnow generate --json` prints it. checkpoint: the folder that answered."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    condition: str
    instruction: str
    response: str


def generate(
    checkpoint: str,
    instruction: str,
    condition: str = "direct",
    max_tokens: int = 256,
    root: str = "./winnow-data",
) -> GenerateAnswer:
    """Generate the response of a checkpoint to one instruction, greedily.

    checkpoint: a checkpoint's folder, a training folder, or `latest`. condition: tags as in the corpus, comma-joined.
    max_tokens: the longest response.

    Raises: WinnowError: if there is no such checkpoint, or an unknown condition.
    """
    folder = find_checkpoint(checkpoint, root)
    (response,) = answer(load(folder), [instruction], condition, max_tokens)
    return GenerateAnswer(checkpoint=folder, condition=condition, instruction=instruction, response=response)
