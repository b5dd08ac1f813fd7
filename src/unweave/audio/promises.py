"""What the headers of plain sound files promise, to notice a file that ends early.

libsndfile quietly corrects the sample count of a WAV or AIFF file that is shorter than its header says, so
the header is read here once more.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# Programs that write to a pipe cannot go back to fill in the size and leave one of these.
_SIZE_UNKNOWN = range(0xFFFFF000, 0x1_0000_0000)
_SIZE_UNKNOWN_SIGNED = range(0x7FFFF000, 0x8000_0001)


def promised_frames(path: Path) -> int | None:
    """Samples per channel that a WAV, RF64, AIFF or uncompressed CAF header announces.

    Returns:
        None for other formats, compressed samples, and headers that leave the length open.
    """
    with path.open("rb") as file:
        head = file.read(12)
        try:
            if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
                return _riff_frames(file)
            if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
                return _aiff_frames(file)
            if head[:4] == b"caff":
                file.seek(8)
                return _caf_frames(file)
        except struct.error:  # the header itself is cut
            return None
    return None


def ends_marked(path: Path) -> bool:
    """Whether an Ogg file ends with a complete page that is marked as the last one of its stream.

    A page is at most 65,307 bytes (RFC 3533, section 6), so the last one starts within those.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_307))
        tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return False
    lengths = tail[start + 27 : start + 27 + tail[start + 26]]
    complete = len(tail) >= start + 27 + len(lengths) + sum(lengths)
    return complete and bool(tail[start + 5] & 4)


def _riff_frames(file: BinaryIO) -> int | None:
    """Walk the chunks of a WAVE form; `file` stands behind its 12-byte head."""
    frame_size, long_size = 0, None
    while True:
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            if long_size is not None:
                size = long_size
            elif size == 0 or size in _SIZE_UNKNOWN or size in _SIZE_UNKNOWN_SIGNED:
                return None
            return size // frame_size if frame_size else None
        body = file.tell()
        if name == b"ds64":
            _, long_size = struct.unpack("<QQ", file.read(16))
        if name == b"fmt ":
            tag, _, _, _, block, _ = struct.unpack("<HHIIHH", file.read(16))
            # 1 integers, 3 floats, 0xFFFE either of them; every other tag is a codec with blocks of its own.
            frame_size = block if tag in (1, 3, 0xFFFE) else 0
        file.seek(body + size + size % 2)


def _aiff_frames(file: BinaryIO) -> int | None:
    while True:
        name, size = struct.unpack(">4sI", file.read(8))
        if name == b"COMM":
            _, frames = struct.unpack(">hI", file.read(6))
            return int(frames)
        file.seek(size + size % 2, 1)


def _caf_frames(file: BinaryIO) -> int | None:
    frame_size = 0
    while True:
        name, size = struct.unpack(">4sq", file.read(12))
        body = file.tell()
        if name == b"data":
            # The chunk starts with a 4-byte edit count; -1 means "to the end of the file".
            return (size - 4) // frame_size if frame_size and size > 4 else None
        if name == b"desc":
            _, codec, _, frame_size, _, _, _ = struct.unpack(">d4sIIIII", file.read(32))
            frame_size = frame_size if codec == b"lpcm" else 0
        file.seek(body + size)
