"""`python -m training.compile`: compile the CPU decoder's kernels into their cache, so that no answer waits for it."""

from __future__ import annotations

from training.inference.prompt import instruction_prompt
from training.inference.runner import Runner
from training.model import ModelConfig, build


def main() -> None:
    """Decode two tokens with a minimal model."""
    model = build(ModelConfig(vocab_size=16, hidden=16, heads=1, feed_forward=16, blocks=1), 0)
    Runner(model).generate([instruction_prompt([1, 2])], end=16, max_new_tokens=2, context=8)


if __name__ == "__main__":
    main()
