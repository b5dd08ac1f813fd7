"""M4A, ALAC and the sound of MP4, MOV, MKV and WEBM, decoded by PyAV, which carries FFmpeg inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from unweave.audio.formats import AudioInfo
from unweave.audio.handles import Handle
from unweave.audio.promises import promised_frames
from unweave.errors import AudioError

# Containers that carry sound themselves. FFmpeg also knows playlists, which open other files and addresses.
_ALLOWED = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,aiff,caf,flac,mp3,aac,"
    "ac3,eac3,amr,ape,wv,tta,dts,truehd,au"
)
_OPTIONS = {"format_whitelist": _ALLOWED}
_LOSSLESS_BITS = {"u8": 8, "s16": 16, "s32": 24, "s64": 32}  # by decoded type, where the codec says no more


class ContainerDecoder:
    """The first sound track of one file; every `pieces` starts again at the beginning."""

    slack = 0.1  # seconds that may lack without a word: Matroska counts milliseconds, codecs pad
    marked = True  # none of these containers marks its end

    def __init__(self, info: AudioInfo, promised: int | None) -> None:
        self.info = info
        self.promised = promised  # samples per channel the container announces

    def pieces(self) -> Iterator[np.ndarray]:
        """(T, C) float32 of any length above 0, up to the end or to the first damage.

        AAC decodes whole blocks, so what lies behind the announced end of the track is cut away.

        Raises:
            AudioError: the rate or the channel count changes on the way.
        """
        left, done = self.info.frames, 0
        with self.info.path.open("rb") as raw, _open(handle := Handle(raw)) as container:
            for block, rate in _decoded(container):
                handle.check()
                if (rate, block.shape[1]) != (self.info.sample_rate, self.info.channels):
                    raise AudioError(
                        f"{self.info.path}: the sound changes from {self.info.sample_rate} Hz, "
                        f"{self.info.channels} channels to {rate} Hz, {block.shape[1]} channels after "
                        f"{done / self.info.sample_rate:.2f} s; convert it to one of them first"
                    )
                block = block if left is None else block[: left - done]
                done += len(block)
                if len(block):
                    yield block
                if done == left:
                    return
            handle.check()


def open_container(path: Path) -> ContainerDecoder | None:
    """A decoder for an existing file, None when FFmpeg finds nothing it can decode.

    Raises:
        AudioError: a film without sound.
    """
    try:
        with path.open("rb") as raw, _open(Handle(raw)) as container:
            if not container.streams.audio:
                raise AudioError(
                    f"{path} has no sound: only {_listed(container)}; give a recording with a sound track"
                )
            stream = container.streams.audio[0]
            name, duration = container.format.name, stream.duration
            frames, promised = None, _announced(container)
            # Rate and channels of the sound are those of what decodes: HE-AAC announces half of them.
            block, rate = next(_decoded(container), (np.zeros((0, 0), np.float32), 0))
            if len(block) == 0 or rate == 0:
                return None
            if name.startswith("mov") and duration and stream.time_base:
                frames = round(duration * stream.time_base * rate)
            codec = stream.codec_context.codec
            subtype = (
                _subtype(stream.codec_context) if codec.lossless else codec.name.removesuffix("float").upper()
            )
            if name == "flac":  # a file of its own, which libsndfile left to us
                subtype = subtype.replace("FLAC_", "PCM_")
            info = AudioInfo(
                path, rate, block.shape[1], frames, _format_name(container), subtype, not codec.lossless
            )
    except av.error.FFmpegError:
        return None
    if frames is None:
        frames = promised_frames(path)
        frames = round(promised * rate) if frames is None and promised is not None else frames
    return ContainerDecoder(info, frames)


def _open(handle: Handle) -> Any:
    return av.open(handle, mode="r", container_options=_OPTIONS)


def _decoded(container: Any) -> Iterator[tuple[np.ndarray, int]]:
    """(T, C) float32 blocks of the first sound track and their rate; damaged packets are left out."""
    stream = container.streams.audio[0]
    packets = container.demux(stream)
    packer, packs = None, None
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.InvalidDataError:
            continue  # the generator of packets is spent after an error of its own, so this ends
        for frame in frames:
            if not frame.format.is_planar:
                yield _samples(frame), frame.sample_rate
                continue
            # `to_ndarray` of a planar frame of 8 channels reads past FFmpeg's list of planes and crashes
            # (PyAV 18.1), so channels are interleaved before they are touched.
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if packer is None or packs != kind:
                packer, packs = av.AudioResampler(format=frame.format.packed, layout=frame.layout), kind
            for packed in packer.resample(frame):
                yield _samples(packed), packed.sample_rate


def _samples(frame: Any) -> np.ndarray:
    """(T, C) float32, full scale = 1.0, of a frame with interleaved channels."""
    values: np.ndarray = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / np.float32(128)
    if values.dtype.kind == "i":
        # Powers of two: exact for 16 and 24 bits, one rounding to float32 above.
        exact: np.ndarray = values / 2.0 ** (8 * values.dtype.itemsize - 1)
        return exact.astype(np.float32)
    return np.asarray(values, np.float32)


def _announced(container: Any) -> float | None:
    """Seconds that the container announces for its sound, None when it does not or only guesses."""
    stream = container.streams.audio[0]
    if container.format.name.startswith("mov") and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.format.name.startswith("matroska"):
        tag = stream.metadata.get("DURATION", "")  # "00:00:03.026000000"
        parts = tag.split(":")
        if len(parts) == 3 and all(part.replace(".", "", 1).isdigit() for part in parts):
            hours, minutes, seconds = map(float, parts)
            return 3600 * hours + 60 * minutes + seconds
        if container.duration and len(container.streams) == 1:
            return float(container.duration / 1_000_000)
    return None


def _subtype(codec_context: Any) -> str:
    """Name of a lossless codec and its bits per sample: "PCM_16", "FLOAT", "ALAC_24" ..."""
    name, kind = codec_context.codec.name, codec_context.format.name.removesuffix("p")
    if kind in ("flt", "dbl"):
        return "FLOAT" if kind == "flt" else "DOUBLE"
    bits = _LOSSLESS_BITS.get(kind, 16)
    if name.startswith("pcm_"):
        digits = "".join(filter(str.isdigit, name.split("_")[1]))  # pcm_s24le
        return f"PCM_{digits or bits}" if digits != "8" else "PCM_U8"
    extra = codec_context.extradata or b""
    if name == "alac" and len(extra) > 17:
        bits = extra[17]  # ALACSpecificConfig.bitDepth, behind the 12 bytes of its atom
    elif name == "flac" and len(extra) >= 34:
        bits = ((extra[12] & 1) << 4 | extra[13] >> 4) + 1  # STREAMINFO, RFC 9639 section 8.2
    return f"{name.upper()}_{bits}"


def _format_name(container: Any) -> str:
    name = str(container.format.name)
    if name.startswith("mov"):
        return "MOV" if container.streams.video else "M4A"
    return name.split(",")[0].upper()


def _listed(container: Any) -> str:
    counts: dict[str, int] = {}
    for stream in container.streams:
        counts[stream.type] = counts.get(stream.type, 0) + 1
    return " and ".join(f"{number} {kind} stream(s)" for kind, number in counts.items()) or "no stream at all"
