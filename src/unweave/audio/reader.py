"""Read sound files in blocks, whatever they are."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unweave.audio.container import open_container
from unweave.audio.formats import AudioInfo
from unweave.audio.sndfile import open_sndfile
from unweave.errors import AudioError, UsageError

_READABLE = "WAV, RF64, FLAC, MP3, OGG, Opus, AIFF, CAF, and the sound of M4A, MP4, MOV, MKV and WEBM"


class Decoder(Protocol):
    """What libsndfile and FFmpeg are made to look like."""

    info: AudioInfo
    promised: int | None  # samples per channel the header announces
    slack: float  # seconds that may lack at the end without a word
    marked: bool  # False: the stream lacks its end mark

    def pieces(self) -> Iterator[np.ndarray]:
        """(T, C) float32 from the beginning, until the end or the first damage."""
        ...


class Reader:
    """An open sound file; made by `open_reader`, closed by `with`.

    `blocks` may be asked for again and starts at the beginning each time; damage is looked for, and
    `warnings` filled, the first time the end is reached.
    """

    info: AudioInfo
    warnings: list[str]

    def __init__(self, decoder: Decoder) -> None:
        self.info = decoder.info
        self.warnings = []
        self._decoder = decoder
        self._checked = False
        self._running: list[Generator[Tensor, None, None]] = []

    def blocks(self, size: int) -> Iterator[Tensor]:
        """The whole sound in order: blocks of (C, size) float32, the last one shorter.

        Memory holds a block and a codec frame, whatever the length of the file.

        Raises:
            UsageError: `size` is below 1.
            AudioError: a sample is NaN or infinite (named, with channel and time), or nothing decodes.
        """
        if size < 1:
            raise UsageError(f"a block wants at least 1 sample, got size={size}")
        running = self._blocks(size)
        self._running.append(running)
        return running

    def close(self) -> None:
        """Close the file under every iterator that `blocks` gave out."""
        while self._running:
            self._running.pop().close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blocks(self, size: int) -> Generator[Tensor, None, None]:
        check = not self._checked
        total, held, parts = 0, 0, []
        for piece in self._decoder.pieces():
            if check:
                _refuse_not_finite(piece, total, self.info)
            total += len(piece)
            held += len(piece)
            parts.append(piece)
            if held < size:
                continue
            joined = np.concatenate(parts)
            cut = held - held % size
            for start in range(0, cut, size):
                yield _tensor(joined[start : start + size])
            held -= cut
            parts = [joined[cut:].copy()]
        if held:
            yield _tensor(np.concatenate(parts))
        if total == 0:
            raise AudioError(
                f"{self.info.path} is a {self.info.format} file without a single sample that can be decoded; "
                f"record or export it again"
            )
        if check:
            self._checked = True
            self._note_shortage(total)

    def _note_shortage(self, total: int) -> None:
        info, promised = self.info, self._decoder.promised
        slack = round(self._decoder.slack * info.sample_rate)
        if promised is not None and total + slack < promised:
            self.warnings.append(
                f"{info.path} is cut short or damaged: {total / info.sample_rate:.2f} s of the "
                f"{promised / info.sample_rate:.2f} s it promises could be recovered"
            )
        elif not self._decoder.marked:
            self.warnings.append(
                f"{info.path} is cut short: it ends without an end mark; "
                f"{total / info.sample_rate:.2f} s could be recovered"
            )


def open_reader(path: str | Path) -> Reader:
    """Open a sound file, or a film for its first sound track; the content decides the format.

    Raises:
        AudioError: no such file, a folder, an empty file, not sound, a film without sound, or a file cut
            short so early that nothing can be recovered.
    """
    path = Path(path)
    head = _first_bytes(path)
    decoder = open_sndfile(path) or open_container(path)
    if decoder is None:
        raise AudioError(f"{path} {_why_unreadable(head)}")
    return Reader(decoder)


def probe(path: str | Path) -> AudioInfo:
    """What a file says about itself; opens it, decodes at most one block. Raises as `open_reader`."""
    with open_reader(path) as reader:
        return reader.info


def _first_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, a sound file is wanted; give one of the files in it")
        if not path.exists():
            raise AudioError(f"there is no file {path}; check its name and folder")
        if not path.is_file():
            raise AudioError(f"{path} is a device or pipe, a sound file is wanted; save it to a file first")
        with path.open("rb") as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if isinstance(error, AudioError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path} cannot be opened: {reason}; check its name and permissions") from error
    if not head:
        raise AudioError(f"{path} is empty (0 bytes), a sound file is wanted; copy or download it again")
    return head


def _why_unreadable(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return (
            "is an MP4, M4A or MOV file without a usable index (its 'moov' part), as after a recording or "
            "download that stopped early: nothing can be recovered from it; get the whole file again"
        )
    magic = (b"RIFF", b"RF64", b"FORM", b"caff", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3")
    if head.startswith(magic):
        return (
            "begins like a sound file, but nothing in it can be decoded: it is cut short or damaged, and "
            "nothing can be recovered; get the whole file again"
        )
    what = "holds text" if _is_text(head) else "is not in a format that can be read"
    return f"{what}, a sound file is wanted. Readable are {_READABLE}; convert it to one of these"


def _is_text(head: bytes) -> bool:
    try:
        # The last character may be cut in two.
        return "\0" not in head.decode("utf-8", "strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return False


def _refuse_not_finite(piece: np.ndarray, offset: int, info: AudioInfo) -> None:
    finite = np.isfinite(piece)
    if finite.all():
        return
    index, channel = (int(place) for place in np.argwhere(~finite)[0])
    index_in_file = offset + index
    name = "NaN" if np.isnan(piece[index, channel]) else "infinite"
    raise AudioError(
        f"{info.path} holds a {name} sample in channel {channel}, sample {index_in_file} "
        f"({index_in_file / info.sample_rate:.3f} s), finite numbers are wanted; export the file again or "
        f"silence that place"
    )


def _tensor(block: np.ndarray) -> Tensor:
    """(T, C) -> (C, T), in memory of its own."""
    return torch.from_numpy(np.array(block.T, order="C"))
