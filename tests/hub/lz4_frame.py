"""Reads LZ4 frames (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), in which Xet clients pack chunks.

Slow beside a C library, and enough for tests: chunks are 64 KiB, and data that does not compress is not packed at all.
"""

MAGIC = 0x184D2204


def decompress(frame: bytes) -> bytes:
    """The content of one frame. Checksums are skipped: the whole file is checked against its SHA-256 later."""
    if int.from_bytes(frame[:4], "little") != MAGIC:
        raise ValueError("not an LZ4 frame")
    flags = frame[4]
    at = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)  # content size, dictionary id
    out = bytearray()
    while size := int.from_bytes(frame[at : at + 4], "little"):
        at += 4
        packed, size = not size >> 31, size & 0x7FFFFFFF
        if packed:
            _block(frame[at : at + size], out)
        else:
            out += frame[at : at + size]
        at += size + (4 if flags & 0x10 else 0)  # block checksum
    return bytes(out)


def _block(block: bytes, out: bytearray) -> None:
    """Appends a block to `out`; blocks may refer back to earlier ones."""
    at, end = 0, len(block)
    while at < end:
        token = block[at]
        at += 1
        literals = token >> 4
        if literals == 15:
            literals, at = _longer(block, literals, at)
        out += block[at : at + literals]
        at += literals
        if at >= end:
            return
        offset = block[at] | block[at + 1] << 8
        at += 2
        length = token & 15
        if length == 15:
            length, at = _longer(block, length, at)
        length += 4
        start = len(out) - offset
        if offset >= length:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // offset + 1))[:length]


def _longer(block: bytes, length: int, at: int) -> tuple[int, int]:
    while True:
        more = block[at]
        at += 1
        length += more
        if more != 255:
            return length, at
