"""A manifest: a CSV with one labelled clip a row; and sound files decoded once, then read in pieces.

The columns are file, split, label, domain, group, seconds, license; others are carried for model
cards and ignored here. `file` is relative to the manifest's folder and may not leave it.
"""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unweave.audio import read, resample
from unweave.errors import UsageError
from unweave.hub import file_sha256

COLUMNS = ("file", "split", "label", "domain", "group", "seconds", "license")


@dataclass(frozen=True)
class Clip:
    """One row: a recording of one sound."""

    file: str  # relative to the manifest
    split: str  # "train", "dev", "dev_unseen"
    label: str  # plain words
    domain: str  # "sound", "speech" or "music"
    group: str  # recording, speaker or instrument it comes from; never split over train and test
    seconds: float
    license: str


def read_rows(root: Path) -> list[dict[str, str]]:
    """All rows of root/manifest.csv with all of their columns.

    Raises:
        UsageError: no manifest, or a column is missing.
    """
    path = root / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError:
        raise UsageError(
            f"no {path}; --data wants the folder that holds manifest.csv and its clips"
        ) from None
    missing = [column for column in COLUMNS if rows and column not in rows[0]]
    if missing:
        raise UsageError(f"{path} lacks the column {missing[0]!r}; it wants {', '.join(COLUMNS)}")
    return rows


def read_manifest(root: Path, *splits: str) -> list[Clip]:
    """The clips of `splits` listed in root/manifest.csv, in its order.

    Raises:
        UsageError: as `read_rows`, or a file outside of `root`, or no clip of a split.
    """
    path = root / "manifest.csv"
    clips = []
    for row in read_rows(root):
        if row["split"] not in splits:
            continue
        if Path(row["file"]).is_absolute() or ".." in Path(row["file"]).parts:
            raise UsageError(f"{path} names {row['file']!r}; clips have to lie below the manifest's folder")
        values = {column: row[column] for column in COLUMNS if column != "seconds"}
        clips.append(Clip(**values, seconds=float(row["seconds"])))
    for split in splits:
        if not any(clip.split == split for clip in clips):
            raise UsageError(f"{path} has no clip of split {split!r}")
    return clips


def cache_folder() -> Path:
    """Where decoded clips are kept unless told otherwise: unweave below $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unweave"


def decoded(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """(C, T) samples of a sound file at `sample_rate`, as `DecodedFiles` keeps them.

    Raises:
        AudioError: the file cannot be read as sound.
    """
    audio = read(path)
    # Clips start and end at a detector's cut; what little offset they have must not click.
    samples = audio.samples - audio.samples.mean(1, keepdim=True)
    samples = resample(samples, audio.sample_rate, sample_rate)
    whole: NDArray[np.int16] = (samples * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    return whole


def floats(samples: NDArray[np.int16]) -> Tensor:
    """The same as float32, full scale = 1.0."""
    return torch.from_numpy(np.multiply(samples, np.float32(1 / 32768), dtype=np.float32))


class DecodedFiles:
    """Sound files at one rate, each decoded once into a file that is mapped into memory by every later run.

    A file is known by the sha256 of its content, so that a changed one is decoded anew and whatever uses the
    same clip shares it. Samples are kept in 16 bits, clipped at full scale, without their mean: exact for
    16-bit files at the wanted rate up to that mean, at worst -98 dBFS of noise for others. A mixture and
    its references are made from the same 16 bits, so nothing measured depends on the rounding.
    """

    def __init__(self, cache: Path, sample_rate: int) -> None:
        self.cache, self.sample_rate = cache, sample_rate

    def decode(self, path: Path, sha256: str) -> None:
        """Decode `path`, whose content has this sha256, unless that was done before.

        Several processes may do so at the same time.

        Raises:
            AudioError: the file cannot be read as sound.
        """
        target = self._path(sha256)
        if target.exists():
            return
        whole = decoded(path, self.sample_rate)
        self.cache.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as out:
            np.save(out, whole, allow_pickle=False)
        part.replace(target)

    def shape(self, sha256: str) -> tuple[int, int]:
        """(channels, samples) of a decoded file."""
        channels, length = self._map(sha256).shape
        return channels, length

    def crop(self, sha256: str, start: int = 0, length: int | None = None) -> Tensor:
        """(C, length) float32 samples of a decoded file from sample `start` on, full scale = 1.0.

        Without a length, or past the end, as much as there is.
        """
        piece = self._map(sha256)[:, start : None if length is None else start + length]
        return floats(piece)

    def _path(self, sha256: str) -> Path:
        return self.cache / f"{sha256}-{self.sample_rate}.npy"

    def _map(self, sha256: str) -> NDArray[np.int16]:
        found: NDArray[np.int16] = np.load(self._path(sha256), mmap_mode="r", allow_pickle=False)
        return found


class DecodedClips:
    """The clips of a manifest as mono samples at one rate, decoded once."""

    def __init__(
        self,
        root: Path,
        clips: Sequence[Clip],
        sample_rate: int,
        cache: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.clips = clips
        self.sample_rate = sample_rate
        self._files = DecodedFiles(cache, sample_rate)
        self._hashes = []
        for number, clip in enumerate(clips, 1):
            path = root / clip.file
            if not path.is_file():
                raise UsageError(
                    f"{path}, which manifest.csv lists, is missing; complete the folder or the list"
                )
            self._hashes.append(file_sha256(path))
            self._files.decode(path, self._hashes[-1])
            if progress is not None:
                progress(number, len(clips))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        """(T,) float32 samples of clip `index`, full scale = 1.0, the mean of its channels."""
        return self._files.crop(self._hashes[index]).mean(0)
