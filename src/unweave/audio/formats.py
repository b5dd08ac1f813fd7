"""Which kinds of sound file there are, and which one to write for which input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unweave.errors import UnknownNameError, UsageError

RIFF_LIMIT = 2**32 - 2**16  # bytes of samples; WAV and AIFF count sizes in 32 bits, headers included


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about itself."""

    path: Path
    sample_rate: int  # Hz, of the sound as it decodes
    channels: int
    frames: int | None  # samples per channel, exact or promised; None: the container does not say
    format: str  # "WAV", "FLAC", "MP3", "M4A" (MP4 family, sound only), "MOV" (with video), "MATROSKA" ...
    subtype: str  # how samples are stored: "PCM_16", "FLOAT", "ALAC_16", "AAC" ...
    lossy: bool  # the codec threw something away

    @property
    def duration(self) -> float | None:
        """Seconds, None where `frames` is None."""
        return None if self.frames is None else self.frames / self.sample_rate


@dataclass(frozen=True)
class FileFormat:
    """What a `Writer` writes; made by `output_format`."""

    extension: str  # with its dot, ".wav"
    format: str  # "WAV", "RF64", "FLAC", "AIFF", "CAF", "MP3", "OGG", "M4A"
    subtype: str  # "PCM_16", "PCM_24", "FLOAT", "VORBIS", "OPUS", "AAC" ...

    @property
    def bits(self) -> int | None:
        """Bits per sample of integer PCM; None for float and lossy files.

        >>> FileFormat(".flac", "FLAC", "PCM_24").bits
        24
        """
        return _BITS.get(self.subtype)


_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}

# Name on the command line -> extension, format, subtypes; the first subtype is the default.
_KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "wav": (".wav", "WAV", ("FLOAT", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "PCM_U8")),
    "rf64": (".wav", "RF64", ("FLOAT", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "PCM_U8")),
    "flac": (".flac", "FLAC", ("PCM_24", "PCM_16", "PCM_S8")),
    "aiff": (".aiff", "AIFF", ("FLOAT", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "PCM_S8")),
    "caf": (".caf", "CAF", ("FLOAT", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "PCM_S8")),
    "mp3": (".mp3", "MP3", ("MPEG_LAYER_III",)),
    "ogg": (".ogg", "OGG", ("VORBIS",)),
    "opus": (".opus", "OGG", ("OPUS",)),
    "m4a": (".m4a", "M4A", ("AAC",)),
}
_SAME = {"aif": "aiff", "wave": "wav"}
_LOSSLESS_KINDS = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "AIFF": "aiff", "CAF": "caf"}

# What a codec can hold where that is less than everything: (rates in Hz or None for any, most channels).
_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_HOLDS: dict[str, tuple[tuple[int, ...] | None, int]] = {
    "MPEG_LAYER_III": (_MPEG_RATES, 2),
    "OPUS": ((8000, 12000, 16000, 24000, 48000), 8),
    "AAC": ((7350, *_MPEG_RATES, 64000, 88200, 96000), 8),
    "VORBIS": (None, 8),
}


def output_format(
    info: AudioInfo | None, format: str | None = None, subtype: str | None = None
) -> FileFormat:
    """Choose what to write for an input.

    A lossless input comes out as what it was: WAV, AIFF, CAF and FLAC keep container and sample format, RF64
    is WAV again (RF64 where the promised size needs it), and any other lossless input, ALAC and PCM in MP4 or
    Matroska among them, becomes WAV of its own bit depth. A lossy input, or none, becomes 32-bit float WAV:
    decoded samples can exceed full scale, and coding them a second time would lose more.

    Args:
        info: what `probe` said about the input; None when there is no input file.
        format: "wav", "rf64", "flac", "aiff", "caf", "mp3", "ogg" (Vorbis), "opus" or "m4a" (AAC).
        subtype: "PCM_16", "PCM_24", "FLOAT" ...; left out, it is the input's where `format` holds that, else
            the format's best: FLOAT, for FLAC PCM_24.

    Raises:
        UnknownNameError: no such format or subtype.
        UsageError: the format cannot hold the subtype; the message says what it holds.

    >>> output_format(None, "flac")
    FileFormat(extension='.flac', format='FLAC', subtype='PCM_24')
    """
    kind = _own_kind(info) if format is None else _named_kind(format)
    extension, container, subtypes = _KINDS[kind]
    if subtype is None:
        chosen = _own_subtype(info, subtypes)
    else:
        chosen = subtype.upper()
        known = {name for _, _, names in _KINDS.values() for name in names}
        if chosen not in known:
            raise UnknownNameError("sample format", subtype, known)
        if chosen not in subtypes:
            others = [name for name, (_, _, names) in _KINDS.items() if chosen in names]
            raise UsageError(
                f"{kind} cannot hold {chosen}: it holds {', '.join(subtypes)}. "
                f"Choose one of those, or a format that holds {chosen}: {', '.join(others)}"
            )
    if container == "WAV" and info is not None and info.frames is not None:
        size = info.frames * info.channels * _BYTES[chosen]
        container = "RF64" if size > RIFF_LIMIT else "WAV"
    return FileFormat(extension, container, chosen)


def check_holds(file_format: FileFormat, sample_rate: int, channels: int) -> None:
    """Refuse a rate or channel count that the file format cannot hold.

    Raises:
        UsageError: naming what it holds and what to write instead.
    """
    if sample_rate < 1 or channels < 1:
        raise UsageError(
            f"a file wants a sample rate and channels above 0, got {sample_rate} Hz, {channels} channels"
        )
    # FLAC's stream header keeps the rate in 20 bits and libFLAC the channels in 3.
    flac = (tuple(range(1, 655_351)), 8) if file_format.format == "FLAC" else (None, 1024)
    rates, most = _HOLDS.get(file_format.subtype, flac)
    name = file_format.extension[1:]
    if channels > most:
        raise UsageError(f"{name} holds at most {most} channels, this has {channels}; write wav instead")
    if rates is not None and sample_rate not in rates:
        some = "1 to 655350" if len(rates) > 20 else ", ".join(map(str, sorted(rates)))
        instead = "wav" if name == "flac" else "flac or wav"
        raise UsageError(
            f"{name} holds {some} Hz, this is {sample_rate} Hz; write {instead} instead, "
            f"or resample to one of those rates first"
        )


def frame_bytes(file_format: FileFormat, channels: int) -> int:
    """Bytes that one sample of every channel takes, 0 for a compressed format."""
    if file_format.format == "FLAC":
        return 0
    return _BYTES.get(file_format.subtype, 0) * channels


def _named_kind(format: str) -> str:
    name = format.lower().removeprefix(".")
    name = _SAME.get(name, name)
    if name not in _KINDS:
        raise UnknownNameError("output format", format, _KINDS)
    return name


def _own_kind(info: AudioInfo | None) -> str:
    if info is None or info.lossy:
        return "wav"
    return _LOSSLESS_KINDS.get(info.format, "wav")


def _own_subtype(info: AudioInfo | None, subtypes: tuple[str, ...]) -> str:
    """The subtype among `subtypes` that keeps the input's samples as they are, or the first."""
    if info is None or info.lossy:
        return subtypes[0]
    if info.subtype in subtypes:
        return info.subtype
    digits = info.subtype.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")  # ALAC_20, DWVW_12, PCM_S8
    depth = int(digits) if digits.isdigit() else 0
    for name in sorted(subtypes, key=lambda name: _BITS.get(name, 99)):
        if 0 < depth <= _BITS.get(name, 0):
            return name
    return subtypes[0]
