"""`python -m training.compile`: compile the decoding step into its cache; the first answer would wait for it."""

from __future__ import annotations

from tokenizers import Tokenizer, models

from training.inference.cpu_decode import pack
from training.inference.generate import Speaker, generate
from training.model import ModelConfig, build


def main() -> None:
    """Decode two tokens with a model of no size."""
    model = build(ModelConfig(vocab_size=16, hidden=16, heads=1, feed_forward=16, blocks=1), 0).requires_grad_(False)
    special = {"boq": 1, "eoq": 2, "eoa": 16, "pad": 0}
    generate(Speaker(model, Tokenizer(models.BPE()), special, 8, packed=pack(model)), [[1, 2]], 2)


if __name__ == "__main__":
    main()
