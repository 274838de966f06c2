"""The same tokenizer by Hugging Face's library alone, with which Winnow's split, encoder and trainer are compared."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pipelines.bpe.words import SPLIT
from pipelines.steps.encoding import SPECIAL

_SPLITTER = pre_tokenizers.Split(Regex(SPLIT), "isolated")


def library_words(text: str) -> list[str]:
    """The words of a text."""
    return [word for word, _ in _SPLITTER.pre_tokenize_str(text)]


def library_trained(texts: Iterable[str], vocab_size: int) -> bytes:
    """The tokenizer.json that the library's trainer makes of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_SPLITTER, pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True).encode()
