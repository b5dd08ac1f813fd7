"""Write sound files in blocks, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import av
import numpy as np
import soundfile
from torch import Tensor

from unweave.audio import formats
from unweave.audio.aac import AacEncoder
from unweave.audio.formats import FileFormat, check_holds, frame_bytes
from unweave.audio.handles import Handle
from unweave.errors import AudioError, OutputError, UnweaveError, UsageError

# Samples handed over at a time: libsndfile's Vorbis encoder keeps a whole write on its stack.
_STEP = 16384


class Encoder(Protocol):
    """Takes (T, C) blocks, in the numbers `file_numbers` makes of them."""

    def write(self, block: np.ndarray) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class SndfileEncoder:
    """Writes blocks to `file` by libsndfile."""

    def __init__(self, file: Handle, sample_rate: int, channels: int, file_format: FileFormat) -> None:
        self._file = file
        self._sound = soundfile.SoundFile(
            file, "w", sample_rate, channels, subtype=file_format.subtype, format=file_format.format
        )

    def write(self, block: np.ndarray) -> None:
        for start in range(0, len(block), _STEP):
            self._sound.write(block[start : start + _STEP])

    def close(self) -> None:
        self._sound.close()
        self._file.check()
        # libsndfile stamps the time of writing on float files; without it, same input means same bytes.
        self._file.seek(0)
        peak = self._file.read(256).find(b"PEAK")
        if peak >= 0:
            self._file.seek(peak + 12)
            self._file.write(bytes(4))

    def abandon(self) -> None:
        self._sound.close()


class Writer:
    """A sound file in the making: a hidden temporary file beside `path` that is renamed when it is whole.

    As a context manager it renames at the end of the block and removes the temporary file when the block
    raises anything, Ctrl-C too. Several files can be made to appear together: `finish` all, then `commit`
    all, and `discard` all when one of them fails.

    Integer formats keep samples of k / 2^(bits-1) exactly and clip others to full scale; `clipped` counts
    the samples beyond it. A WAV that outgrows 4 GB goes on as RF64 (copied once, at that moment).

    Args:
        path: wanted file; folders on the way are created.
        sample_rate: Hz.
        channels: of every block.
        file_format: from `output_format`; it decides what is written, whatever extension `path` has.
        overwrite: replace an existing file.

    Raises:
        UsageError: the format cannot hold this rate or number of channels.
        OutputError: the file exists, or cannot be written.
    """

    path: Path
    clipped: int  # samples beyond full scale so far, 0 for float formats
    frames: int  # samples per channel so far

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        file_format: FileFormat,
        overwrite: bool = False,
    ) -> None:
        check_holds(file_format, sample_rate, channels)
        self.path = Path(path)
        self.clipped = self.frames = 0
        self._rate, self._channels, self._format = sample_rate, channels, file_format
        self._overwrite = overwrite
        self._finished = self._committed = False
        self._temporary: Path | None = None
        self._disk: BinaryIO | None = None
        self._handle: Handle | None = None
        self._encoder: Encoder | None = None
        with self._explained():
            self._refuse_existing()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._start()

    def write(self, block: Tensor) -> None:
        """Append (C, T) float samples, full scale = 1.0.

        Raises:
            AudioError: another shape, or a sample is NaN or infinite.
            OutputError: the disk is full, or the format's largest size is passed.
        """
        if self._encoder is None or self._handle is None or self._finished:
            raise UsageError(f"{self.path} is finished, nothing can be added; open another Writer")
        if block.ndim != 2 or block.shape[0] != self._channels or not block.is_floating_point():
            raise AudioError(
                f"{self.path} wants float blocks of shape ({self._channels}, time), got {block.dtype} "
                f"{tuple(block.shape)}"
            )
        samples = block.detach().cpu().double().numpy().T
        if not np.isfinite(samples).all():
            index, channel = (int(place) for place in np.argwhere(~np.isfinite(samples))[0])
            raise AudioError(
                f"refused to write a NaN or infinite sample to {self.path}: channel {channel}, sample "
                f"{self.frames + index} ({(self.frames + index) / self._rate:.3f} s); finite ones are wanted"
            )
        with self._explained():
            self._make_room(len(samples))
            if self._format.bits is not None:
                self.clipped += int(np.count_nonzero(np.abs(samples) > 1))
            self._encoder.write(_file_numbers(samples, self._format))
            self._handle.check()
            self.frames += len(samples)

    def finish(self) -> None:
        """Complete the temporary file and bring it to disk; `path` does not exist yet."""
        if self._finished:
            return
        with self._explained():
            self._close_encoder()
            self._finished = True

    def commit(self) -> None:
        """Give the file its name, finishing it first if need be."""
        if self._committed:
            return
        self.finish()
        if self._temporary is None:
            raise OutputError(f"{self.path} was given up, there is nothing to keep; write it again")
        with self._explained():
            self._refuse_existing()
            self._temporary.replace(self.path)
            self._temporary = None
            self._committed = True
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file; after `commit` there is none, and nothing happens."""
        if self._encoder is not None:
            with contextlib.suppress(Exception):  # a half-made file is about to be removed
                self._encoder.abandon()
            self._encoder = None
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        self._finished = True
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def _refuse_existing(self) -> None:
        try:
            self.path.lstat()
        except FileNotFoundError:
            return
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a folder, a file name is wanted; add a name to it")
        if not self._overwrite:
            raise OutputError(f"{self.path} exists already; choose another name or allow overwriting")

    def _start(self) -> None:
        """Open a new temporary file and an encoder on it."""
        # A short name of its own: the wanted one may already be as long as the file system allows.
        name = f".unweave-{secrets.token_hex(6)}{self._format.extension}"
        self._temporary = self.path.parent / name
        self._disk = self._temporary.open("xb+", buffering=0)
        handle = self._handle = Handle(self._disk)
        if self._format.format == "M4A":
            self._encoder = AacEncoder(handle, self._rate, self._channels)
        else:
            self._encoder = SndfileEncoder(handle, self._rate, self._channels, self._format)
        handle.check()

    def _close_encoder(self) -> None:
        if self._encoder is None or self._handle is None or self._disk is None:
            return
        self._encoder.close()
        self._handle.check()
        os.fsync(self._disk.fileno())
        self._disk.close()
        self._encoder = self._handle = self._disk = None

    def _make_room(self, more: int) -> None:
        """Go on as RF64 where a WAV would outgrow its 32-bit sizes."""
        size = (self.frames + more) * frame_bytes(self._format, self._channels)
        if self._format.format not in ("WAV", "AIFF") or size <= formats.RIFF_LIMIT:
            return
        if self._format.format == "AIFF":
            raise OutputError(f"{self.path} passes 4 GB, which AIFF cannot hold; write caf or wav instead")
        self._close_encoder()
        small = self._temporary
        assert small is not None
        try:
            self._format = FileFormat(self._format.extension, "RF64", self._format.subtype)
            self._start()
            kind = "int32" if self._format.bits else _file_type(self._format)
            with soundfile.SoundFile(small) as sound:
                for block in sound.blocks(_STEP, dtype=kind, always_2d=True):
                    self._encoder.write(block)  # type: ignore[union-attr]  # _start made it
        finally:
            small.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Remove the temporary file on any failure, and say in our words why it came to that."""
        try:
            yield
        except BaseException as error:
            # What went wrong inside a callback is the reason for what the encoder then complains about.
            kept = None if self._handle is None else self._handle.failure
            cause = kept or error
            self.discard()
            if isinstance(cause, OSError) and not isinstance(cause, UnweaveError):
                reason = _reason(cause, self.path)
                raise OutputError(f"{self.path} cannot be written: {reason}") from cause
            if isinstance(cause, soundfile.LibsndfileError | av.error.FFmpegError):
                raise OutputError(
                    f"{self.path} cannot be written as {self._format.subtype}: {cause}"
                ) from cause
            if cause is error:
                raise
            raise cause from error


def _file_numbers(samples: np.ndarray, file_format: FileFormat) -> np.ndarray:
    """float64 samples -> what libsndfile stores unchanged: int32 with the sample on top, or floats."""
    bits = file_format.bits
    if bits is None:
        return samples.astype(_file_type(file_format))
    scale = 2.0 ** (bits - 1)
    whole = np.clip(np.rint(samples * scale), -scale, scale - 1).astype(np.int32)
    return np.left_shift(whole, 32 - bits)


def _file_type(file_format: FileFormat) -> str:
    return "float64" if file_format.subtype == "DOUBLE" else "float32"


def _reason(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space is left in {path.parent} ({error.strerror}); free some or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder {path.parent} may not be written to ({error.strerror}); choose another one"
    if error.errno == errno.ENAMETOOLONG:
        return f"its name is too long for the file system ({len(os.fsencode(path.name))} bytes); shorten it"
    return f"{error.strerror or error}; choose another folder or name"


def _sync_folder(folder: Path) -> None:
    """Bring a rename to disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
