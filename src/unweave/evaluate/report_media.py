"""What a report lets one hear and see: players and spectrograms as data URIs, within a number of bytes.

How the page stays small: of a longer item, the ten seconds in which what was asked for is loudest are kept,
mono, at the benchmark's rate, 16 bit. Players are FLAC; where those of all items together would not fit, they
are MP3; and where even those would not, every list of items is cut to the same length.
"""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from unweave.signal.stft import stft

LONGEST = 10.0  # seconds of a player
LIMIT = 24_000_000  # characters of all data URIs of a page
WIDTH, HEIGHT = 320, 128  # of a spectrogram in pixels, at most so wide
RANGE_DB = 80.0  # below the mixture's peak; darker is no darker
LOWEST_HZ = 40.0
_FFT, _HOP = 2048, 512
# Dark to light, so that it reads in grey as well.
_COLOURS = ((6, 6, 20), (38, 20, 92), (120, 32, 128), (208, 60, 92), (246, 140, 50), (255, 240, 190))


@dataclass(frozen=True, eq=False)
class Heard:
    """An item as it is played: mono excerpts of the same stretch, at the same gain."""

    sounds: tuple[Tensor, Tensor, Tensor]  # mixture, reference, estimate: (T,), full scale = 1.0
    sample_rate: int  # Hz


@dataclass(frozen=True)
class Shown:
    """An item as the page holds it: for mixture, reference and estimate a player and a picture."""

    audio: tuple[str, ...]  # data URIs
    pictures: tuple[str, ...]  # data URIs

    @property
    def size(self) -> int:
        """Characters."""
        return sum(map(len, (*self.audio, *self.pictures)))


def excerpt(mixture: Tensor, reference: Tensor, estimate: Tensor, sample_rate: int) -> Heard:
    """(C, T) each -> the stretch worth hearing, mono, all three with the gain at which none clips."""
    sounds = torch.stack([mixture.mean(0), reference.mean(0), estimate.mean(0)])
    length = round(LONGEST * sample_rate)
    if sounds.shape[1] > length:
        energy = torch.nn.functional.pad(sounds[1].double().square().cumsum(0), (1, 0))
        start = int((energy[length:] - energy[:-length]).argmax())
        sounds = sounds[:, start : start + length]
    sounds = sounds * (0.9 / max(1e-6, float(sounds.abs().max())))
    return Heard((sounds[0], sounds[1], sounds[2]), sample_rate)


def encoded(heard: Heard, format: str) -> Shown:
    """Players and pictures of one item; `format` is FLAC or MP3."""
    audio = tuple(audio_uri(sound, heard.sample_rate, format) for sound in heard.sounds)
    return Shown(audio, spectrograms(heard))


def fitting(lists: Sequence[Sequence[tuple[Heard, Shown]]], limit: int = LIMIT) -> list[list[Shown]]:
    """What of items in FLAC is shown, so that all data URIs together have at most `limit` characters.

    Returns:
        The same lists: as they are, or in MP3, or in MP3 and each cut to its first few.
    """
    found = [[shown for _, shown in some] for some in lists]
    if _size(found) > limit and "MP3" in soundfile.available_formats():
        found = [
            [
                replace(shown, audio=tuple(audio_uri(one, heard.sample_rate, "MP3") for one in heard.sounds))
                for heard, shown in some
            ]
            for some in lists
        ]
    while any(found) and _size(found) > limit:
        longest = max(map(len, found))
        found = [some[: longest - 1] for some in found]
    return found


def audio_uri(samples: Tensor, sample_rate: int, format: str) -> str:
    """(T,) as a data URI; `format` is FLAC or MP3."""
    file = io.BytesIO()
    subtype = {"FLAC": "PCM_16", "MP3": "MPEG_LAYER_III"}[format]
    soundfile.write(file, samples.numpy(), sample_rate, format=format, subtype=subtype)
    return _uri({"FLAC": "audio/flac", "MP3": "audio/mpeg"}[format], file.getvalue())


def spectrograms(heard: Heard) -> tuple[str, ...]:
    """Pictures of the three sounds as data URIs, on the same scale: 0 dB is the mixture's peak."""
    levels = [10 * bands(sound, heard.sample_rate).clamp(min=1e-12).log10() for sound in heard.sounds]
    top = float(levels[0].max())
    found = []
    for level in levels:
        shade = ((level - top + RANGE_DB) / RANGE_DB * 255).round().clamp(0, 255)
        found.append(_uri("image/png", png(shade.to(torch.uint8).flip(0).numpy())))
    return tuple(found)


def bands(samples: Tensor, sample_rate: int) -> Tensor:
    """(T,) -> (HEIGHT, at most WIDTH) mean power in bands evenly spaced on a log axis, lowest first."""
    power = stft(samples, _FFT, _HOP).abs().square()  # (F, N)
    edges = torch.logspace(0, 1, HEIGHT + 1, base=sample_rate / 2 / LOWEST_HZ, dtype=torch.float64)
    bins = edges * LOWEST_HZ / (sample_rate / _FFT)
    low = bins[:-1].floor().long()
    high = torch.maximum(low + 1, bins[1:].ceil().long()).clamp(max=len(power))
    summed = torch.nn.functional.pad(power.double().cumsum(0), (0, 0, 1, 0))
    rows = (summed[high] - summed[low]) / (high - low)[:, None]
    if rows.shape[1] > WIDTH:
        rows = torch.nn.functional.adaptive_avg_pool1d(rows, WIDTH)
    return rows


def png(shades: NDArray[np.uint8]) -> bytes:
    """(rows, columns) numbers of `_COLOURS` blended to 256 shades, as a PNG file (W3C PNG, third edition)."""
    rows, columns = shades.shape
    anchors = np.linspace(0, 255, len(_COLOURS))
    palette = np.stack(
        [np.interp(np.arange(256), anchors, [colour[i] for colour in _COLOURS]) for i in range(3)], axis=1
    )
    lines = np.pad(shades, ((0, 0), (1, 0)))  # every line begins with its filter: 0, none
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            (b"PLTE", palette.round().astype(np.uint8).tobytes()),
            (b"IDAT", zlib.compress(lines.tobytes())),
            (b"IEND", b""),
        )
    )


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _size(lists: Sequence[Sequence[Shown]]) -> int:
    return sum(one.size for some in lists for one in some)
