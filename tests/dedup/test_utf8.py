"""UTF-8 in kernels against Python's codec."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.utf8 import decode, decode_checked, encode

BOUNDARIES = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]


def test_every_width_decodes_and_encodes_as_in_python() -> None:
    for code in BOUNDARIES:
        data = np.frombuffer(chr(code).encode(), np.uint8)
        assert decode(data, 0) == (code, len(data))
        assert decode_checked(data, 0, len(data)) == (code, len(data))
        packed, width = encode(code)
        assert int(packed).to_bytes(8, "little")[:width] == data.tobytes()
        assert int(packed) < 1 << 8 * width


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_valid_text_decodes_to_its_characters(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    at = 0
    for character in text:
        assert decode(data, at) == decode_checked(data, at, len(data))
        code, width = decode(data, at)
        assert chr(code) == character
        at += width
    assert at == len(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=6))
@example(b"\xf4\x90\x80\x80")  # beyond U+10FFFF
def test_checked_decoding_never_accepts_what_has_no_valid_form(data: bytes) -> None:
    """An accepted sequence has the lead and continuation bytes of its width; the rest is one byte of no character."""
    code, width = decode_checked(np.frombuffer(data, np.uint8), 0, len(data))
    if code < 0:
        assert width == 1
        for size in range(1, 5):
            try:
                accepted = len(data[:size].decode()) == 1
            except UnicodeDecodeError:
                accepted = False
            assert not accepted
    else:
        assert width <= len(data)
        assert all(byte & 0xC0 == 0x80 for byte in data[1:width])
        assert data[0] in (0xE0, 0xF0, 0xF4) or data[:width].decode("utf-8", "surrogatepass") == chr(code)
