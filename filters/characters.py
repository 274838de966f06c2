"""Reading UTF-8 in kernels: the code point at a place."""

from __future__ import annotations

from dedup.kernel import kernel


@kernel
def code_point(data, at):  # type: ignore[no-untyped-def]
    """The code point that begins at `at`, which must not be within one: (it, where the next begins)."""
    byte = int(data[at])
    if byte < 0x80:
        return byte, at + 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | int(data[at + 1]) & 0x3F, at + 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | (int(data[at + 1]) & 0x3F) << 6 | int(data[at + 2]) & 0x3F, at + 3
    high = (byte & 0x07) << 18 | (int(data[at + 1]) & 0x3F) << 12
    return high | (int(data[at + 2]) & 0x3F) << 6 | int(data[at + 3]) & 0x3F, at + 4
