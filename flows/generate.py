"""What does a checkpoint answer to one instruction?"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from training.folders import find_checkpoint
from training.inference.generate import load_text_generator


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
    device: str = "auto",
) -> GenerateAnswer:
    """Generate the response of a checkpoint to one instruction, greedily.

    checkpoint: a checkpoint's folder, a training folder, or `latest`. condition: tags as in the corpus, comma-joined.
    max_tokens: the longest response. device: `auto` (a GPU if torch sees one), `cpu`, `cuda` or `cuda:<number>`.

    Raises: WinnowError: if there is no such checkpoint, or an unknown condition.
    """
    folder = find_checkpoint(checkpoint, root)
    (response,) = load_text_generator(folder, device=device).answer([instruction], condition, max_tokens)
    return GenerateAnswer(checkpoint=folder, condition=condition, instruction=instruction, response=response)
