"""WAV, FLAC, MP3, Ogg, AIFF, CAF, RF64 and more, decoded by libsndfile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from unweave.audio.formats import AudioInfo
from unweave.audio.handles import Handle
from unweave.audio.promises import ends_marked, promised_frames

# Samples per read. What the decoder already had is lost when a read fails, and 4096 is the usual FLAC block.
_STEP = 4096
_LOSSLESS = ("PCM_", "FLOAT", "DOUBLE", "ALAC_", "DWVW_")
_LOSSY_SLACK = 0.1  # seconds; an encoder's own padding may differ from what the header announces
_LENGTH_UNKNOWN = 2**62  # libsndfile says 2^63 - 1 samples when a stream does not tell


class SndfileDecoder:
    """One file as libsndfile sees it; every `pieces` starts again at the beginning."""

    def __init__(self, info: AudioInfo, promised: int | None, marked: bool) -> None:
        self.info = info
        self.promised = promised  # samples per channel the header announces
        self.slack = _LOSSY_SLACK if info.lossy else 0.0  # seconds that may lack without a word
        self.marked = marked  # False: a stream that lacks its end mark, so its end is missing

    def pieces(self) -> Iterator[np.ndarray]:
        """(T, C) float32 of any length above 0, up to the end or to the first damage."""
        with self.info.path.open("rb") as raw, soundfile.SoundFile(handle := Handle(raw), "r") as file:
            while True:
                try:
                    piece = file.read(_STEP, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError:
                    piece = np.zeros((0, self.info.channels), np.float32)
                handle.check()
                if len(piece) == 0:
                    return
                yield piece


def open_sndfile(path: Path) -> SndfileDecoder | None:
    """A decoder for an existing file.

    Returns:
        None when libsndfile does not know the format, and for a FLAC stream without a length, of which it
        drops the last block.
    """
    try:
        with path.open("rb") as raw, soundfile.SoundFile(Handle(raw), "r") as file:
            if file.frames >= _LENGTH_UNKNOWN:
                return None
            lossy = not file.subtype.startswith(_LOSSLESS)
            info = AudioInfo(
                path, file.samplerate, file.channels, file.frames, file.format, file.subtype, lossy
            )
    except soundfile.LibsndfileError:
        return None
    promised = promised_frames(path)
    marked = info.format != "OGG" or ends_marked(path)
    return SndfileDecoder(info, info.frames if promised is None else promised, marked)
