"""A manifest: a CSV with one labelled clip a row, and its clips decoded once into one flat file.

The columns are file, split, label, domain, group, seconds, license; others are carried for model
cards and ignored here. `file` is relative to the manifest's folder and may not leave it.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unweave.audio import read, resample
from unweave.errors import UsageError

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


def read_manifest(root: Path, *splits: str) -> list[Clip]:
    """The clips of `splits` listed in root/manifest.csv, in its order.

    Raises:
        UsageError: no manifest, a column is missing, a file outside of `root`, or no clip of a split.
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
    clips = []
    for row in rows:
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


class DecodedClips:
    """Clips of one manifest as mono samples at one rate, decoded once and then read from disk by page.

    Decoding seven hours of Opus takes minutes; the file made here, 16-bit samples one clip after
    another, is mapped into memory by every later run. Its name carries a hash of what it holds.
    """

    def __init__(
        self,
        root: Path,
        clips: list[Clip],
        sample_rate: int,
        cache: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.clips = clips
        self.sample_rate = sample_rate
        key = "\n".join(f"{clip.file} {clip.seconds}" for clip in clips) + f"\n{sample_rate}"
        stem = cache / f"clips-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        samples, offsets = stem.with_suffix(".i16"), stem.with_suffix(".npy")
        if not (samples.exists() and offsets.exists()):
            cache.mkdir(parents=True, exist_ok=True)
            _decode(root, clips, sample_rate, samples, offsets, progress)
        self._offsets = np.load(offsets, allow_pickle=False)
        self._samples = np.memmap(samples, dtype=np.int16, mode="r")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        """(T,) float32 samples of clip `index`, full scale = 1.0."""
        start, end = self._offsets[index], self._offsets[index + 1]
        return torch.from_numpy(self._samples[start:end].astype(np.float32) / 32768)


def _decode(
    root: Path,
    clips: list[Clip],
    sample_rate: int,
    samples: Path,
    offsets: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    ends = [0]
    part = samples.with_suffix(".part")
    with part.open("wb") as out:
        for number, block in enumerate(_mono(root, clips, sample_rate), 1):
            out.write((block * 32767).round().clamp(-32768, 32767).to(torch.int16).numpy().tobytes())
            ends.append(ends[-1] + len(block))
            if progress is not None:
                progress(number, len(clips))
    np.save(offsets, np.array(ends, dtype=np.int64), allow_pickle=False)
    part.replace(samples)


def _mono(root: Path, clips: list[Clip], sample_rate: int) -> Iterator[Tensor]:
    for clip in clips:
        audio = read(root / clip.file)
        mono = audio.samples.mean(0)
        # Clips start and end at a detector's cut; what little offset they have must not click.
        yield resample(mono - mono.mean(), audio.sample_rate, sample_rate)
