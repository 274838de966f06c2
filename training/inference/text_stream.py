"""The text of a sequence while it is generated: pieces that join to the text of the whole answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.inference.generate import cut_at_stop

REPLACEMENT = "\ufffd"
"""What a byte-level tokenizer decodes an incomplete character to."""


class TextStream:
    """Decodes token ids piece by piece. An incomplete character, and text that may begin a stop string, are held back.

    text: all that was returned so far.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self.text = ""
        self._decode, self._stop = decode, stop
        self._decoded, self._count = "", 0  # text of the first `_count` ids, which end with a complete character

    def push(self, ids: Sequence[int]) -> str:
        """The next piece. ids: all ids of the sequence so far."""
        piece = self._decode(ids[self._count :])
        known = self._decoded + piece.rstrip(REPLACEMENT)
        if not piece.endswith(REPLACEMENT):
            self._decoded, self._count = known, len(ids)
        return self._advance(known[: len(known) - self._held(known)])

    def finish(self, ids: Sequence[int]) -> str:
        """The last piece. ids: those of the whole sequence."""
        return self._advance(cut_at_stop(self._decode(ids), self._stop))

    def _advance(self, text: str) -> str:
        piece = text[len(self.text) :]
        self.text += piece
        return piece

    def _held(self, text: str) -> int:
        """The length of the longest end of a text that begins a stop string."""
        longest = max((len(string) for string in self._stop), default=1) - 1
        return next(
            (
                length
                for length in range(min(longest, len(text)), 0, -1)
                if any(string.startswith(text[-length:]) for string in self._stop)
            ),
            0,
        )
