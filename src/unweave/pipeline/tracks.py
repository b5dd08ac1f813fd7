"""Several files of one recording that appear together or not at all."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import torch
from torch import Tensor

from unweave.audio import FileFormat, Writer, open_reader
from unweave.errors import OutputError
from unweave.signal import consistency

FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")  # no full scale to clip at
FINEST_GRID = 24  # bits: float32 has no finer one, so 32-bit integers are written as they come
BLOCK = 1 << 16  # samples per channel copied at a time


class Tracks:
    """Files of the same rate, channels and format, written side by side into one folder.

    Integer and lossy formats clip at full scale. Whether anything would clip is known at the end only,
    so their sound waits as float32 in nameless files, and one gain common to all is applied on the way
    into the format: the balance between the tracks is never touched. Who knows the gain beforehand says so,
    and nothing waits.

    Used as a context manager: everything is made in a hidden folder beside the wanted files, which is
    gone when the block is left; what `commit` has not moved out of it leaves no trace.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        sample_rate: int,
        channels: int,
        target: FileFormat,
        overwrite: bool = False,
        gain: float | None = None,
    ) -> None:
        self.place = paths[0].parent
        self.names = [path.name for path in paths]
        self.target = target
        self._rate, self._channels = sample_rate, channels
        self._overwrite = overwrite
        self._gain = 1.0 if target.subtype in FLOAT_SUBTYPES else gain
        self._writers: list[Writer] = []
        self._waiting: list[IO[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Tracks":
        with ExitStack() as stack:
            with writing(self.place):
                hidden = Path(tempfile.mkdtemp(prefix=".unweave-", dir=self.place))
                stack.callback(shutil.rmtree, hidden, ignore_errors=True)
                self.staged, self._replaced = hidden / "new", hidden / "old"
                self.staged.mkdir()
                self._replaced.mkdir()
            for name in self.names:
                writer = Writer(self.staged / name, self._rate, self._channels, self.target)
                stack.callback(writer.discard)
                self._writers.append(writer)
                if self._gain is None:
                    with writing(self.place):
                        self._waiting.append(stack.enter_context(tempfile.TemporaryFile(dir=hidden)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, stems: Tensor) -> None:
        """Append (N, C, t), one for each file.

        Raises:
            OutputError: the disk is full, or the folder went away.
        """
        if self._gain is not None:
            for writer, stem in zip(self._writers, stems, strict=True):
                writer.write(stem * self._gain if self._gain != 1 else stem)
            return
        with writing(self.place):
            for waiting, stem in zip(self._waiting, stems, strict=True):
                waiting.write(stem.T.contiguous().numpy().tobytes())

    def finish(self, lowest: float, highest: float) -> float:
        """Complete all files; they lie in `staged`.

        Args:
            lowest: the smallest sample of all, 0 or below; full scale = 1.
            highest: the largest, 0 or above.

        Returns:
            The gain that all files were given to keep these within full scale, 1 or less.

        Raises:
            OutputError: the disk is full, or the folder went away.
        """
        gain = fitting_gain(self.target, lowest, highest) if self._gain is None else self._gain
        for waiting, writer in zip(self._waiting, self._writers, strict=False):
            with writing(self.place):
                for block in _read_back(waiting, self._channels):
                    writer.write(block * gain if gain != 1 else block)
                waiting.close()  # gives its disk space back before the next one is copied
        for writer in self._writers:
            writer.commit()
        return gain

    def commit(self, *others: str, outdated: Sequence[str] = ()) -> None:
        """Move all files, and `others` that were put into `staged`, to where they are wanted.

        If one cannot have its name, none keeps it, and what was to be replaced is back in place.

        Args:
            others: names of more files.
            outdated: names of files that these replace together, under whatever name; they go away.

        Raises:
            OutputError: a name was taken in the meantime, or the folder went away.
        """
        names = [*self.names, *others]
        aside, moved = [], []
        try:
            with writing(self.place):
                for name in dict.fromkeys([*names, *outdated]):
                    if os.path.lexists(self.place / name):
                        refuse_existing([self.place / name], self._overwrite)
                        (self.place / name).replace(self._replaced / name)
                        aside.append(name)
                for name in names:
                    (self.staged / name).rename(self.place / name)
                    moved.append(name)
        except BaseException:
            for name in moved:
                (self.place / name).unlink(missing_ok=True)
            for name in aside:
                (self._replaced / name).replace(self.place / name)
            raise

    def sum_error_db(self, recording: Iterable[Tensor], gain: float) -> float | None:
        """How far the finished files are from adding up to what they were made of, read back and measured.

        Args:
            recording: its (C, `BLOCK`) blocks.
            gain: from `finish`, taken out again before comparing.

        Returns:
            dBFS of the largest sample of the difference; None: there is no difference.
        """
        worst = -math.inf
        with ExitStack() as stack:
            readers = [stack.enter_context(open_reader(self.staged / name)) for name in self.names]
            # A lossy file may be some samples longer or shorter than what was put into it.
            for mixture, *blocks in zip(
                recording, *(reader.blocks(BLOCK) for reader in readers), strict=False
            ):
                length = min(block.shape[1] for block in [mixture, *blocks])
                stems = torch.stack([block[:, :length] for block in blocks])
                stems = stems.double() / gain if gain != 1 else stems
                worst = max(worst, consistency.sum_error_db(mixture[:, :length], stems[:-1], stems[-1]))
        return worst if worst > -math.inf else None


def on_grid(samples: Tensor, target: FileFormat) -> Tensor:
    """`samples` rounded to the steps of an integer format; as they are for any other.

    Rounding before the residual is taken makes the files themselves add up, not only the numbers they
    were rounded from.
    """
    if target.bits is None or target.bits > FINEST_GRID:
        return samples
    steps = 2.0 ** (target.bits - 1)
    return (samples * steps).round() / steps


def fitting_gain(target: FileFormat, lowest: float, highest: float) -> float:
    """The gain, 1 or less, that keeps samples between `lowest` and `highest` within full scale.

    >>> fitting_gain(FileFormat(".wav", "WAV", "PCM_16"), lowest=-1.0, highest=0.5)
    1.0
    >>> fitting_gain(FileFormat(".ogg", "OGG", "VORBIS"), lowest=-2.0, highest=0.5)
    0.5
    """
    if target.subtype in FLOAT_SUBTYPES:
        return 1.0
    # Integers go one step less far up than down.
    ceiling = 1 - 2.0 ** (1 - target.bits) if target.bits is not None else 1.0
    return 1 / max(1.0, highest / ceiling, -lowest)


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Raises:
    OutputError: one of `paths` is there and may not be replaced; a folder never may.
    """
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, wanted is a file; choose another output")
        if os.path.lexists(path) and not overwrite:
            raise OutputError(f"{path} exists already; allow overwriting it, or choose another output")


@contextmanager
def folder(path: Path) -> Iterator[None]:
    """`path` and its parents made where missing; those made here are removed again on failure, if empty.

    Raises:
        OutputError: a folder cannot be made.
    """
    made: list[Path] = []
    try:
        with writing(path):
            for missing in [each for each in (path, *path.parents) if not each.exists()][::-1]:
                missing.mkdir(exist_ok=True)
                made.insert(0, missing)
            path.mkdir(exist_ok=True)  # a file of that name is an error
        yield
    except BaseException:
        for empty in made:
            try:
                empty.rmdir()
            except OSError:
                break  # somebody put something into it
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system has against writing to `path`, as an `OutputError` with a remedy."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another output folder, or make room"
        ) from error


def _read_back(waiting: IO[bytes], channels: int) -> Iterator[Tensor]:
    waiting.seek(0)
    while data := waiting.read(BLOCK * channels * 4):
        yield torch.from_numpy(np.frombuffer(bytearray(data), np.float32).reshape(-1, channels).T)
