"""Where stems wait until it is known which of them are wanted: nameless files, or memory."""

import io
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import torch
from torch import Tensor

from unweave.pipeline.tracks import writing


class Shelf:
    """Stems of one recording as float32, each written once from start to end, then read as often as wanted.

    Silence takes no room: a sound heard for ten seconds of an hour costs ten seconds of disk.
    """

    def __init__(self, channels: int, place: Path | None = None) -> None:
        """Args:
        channels: of the recording.
        place: an existing folder for the nameless files; None keeps the stems in memory.
        """
        self._channels, self._place = channels, place
        self._slots: list[IO[bytes]] = []

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in range(len(self._slots)):
            self.drop(slot)

    def make_room(self, count: int) -> list[int]:
        """Numbers of `count` new slots."""
        first = len(self._slots)
        for _ in range(count):
            if self._place is None:
                self._slots.append(io.BytesIO())
            else:
                with writing(self._place):
                    self._slots.append(tempfile.TemporaryFile(dir=self._place))  # noqa: SIM115
        return list(range(first, first + count))

    def drop(self, slot: int) -> None:
        """Give up what waits in a slot; it must not be read any more."""
        with suppress(OSError):  # closing writes what is still held back, which nobody wants now
            self._slots[slot].close()

    def write(self, slots: Sequence[int], stems: Tensor) -> None:
        """Append (Q, C, t), one for each slot.

        Raises:
            OutputError: the disk is full.
        """
        for slot, stem in zip(slots, stems, strict=True):
            with writing(self._place or Path()):
                if stem.any():
                    self._slots[slot].write(stem.T.contiguous().numpy().tobytes())
                else:  # a hole in the file
                    self._slots[slot].seek(4 * stem.numel(), io.SEEK_CUR)

    def rewind(self, slots: Sequence[int]) -> None:
        """Read from the start again.

        Raises:
            OutputError: the disk is full; a part of what was written is held back until now.
        """
        for slot in slots:
            with writing(self._place or Path()):
                self._slots[slot].seek(0)

    def read(self, slots: Sequence[int], length: int) -> Tensor:
        """The next (Q, C, length) samples; silence past the end of what was written.

        Raises:
            OutputError: the disk fails.
        """
        stems = torch.zeros(len(slots), self._channels, length)
        for into, slot in zip(stems, slots, strict=True):
            with writing(self._place or Path()):
                data = self._slots[slot].read(4 * self._channels * length)
            if data:
                samples = np.frombuffer(bytearray(data), np.float32).reshape(-1, self._channels)
                into[:, : len(samples)] = torch.from_numpy(samples.T)
        return stems
