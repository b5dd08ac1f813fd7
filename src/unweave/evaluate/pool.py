"""Clips to draw benchmarks from, and which of their labels can be told apart."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache as once
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor

from unweave.data.manifest import Clip, DecodedFiles, cache_folder, read_manifest
from unweave.errors import UsageError
from unweave.evaluate.frozen import Item, Piece
from unweave.hub import file_sha256

Choice = TypeVar("Choice")

SEED = 2026  # of every list, unless told otherwise
LEVEL = 0.05  # rms of the first source of a drawn mixture, -26 dBFS
PEAK = 0.9  # peak of a mixture that would exceed full scale, as AudioSep and DCASE have it
FRAME = 0.01  # seconds between the places at which a crop may start
HEARD = 0.1  # a crop has at least this share of the energy of the clip's loudest crop
QUIETEST = 1e-3  # rms of a clip's loudest second; clips below hold no sound
TRIES = 100  # draws of labels before giving up
_JOINING = {"and", "the", "with", "for"}  # words that say nothing about a sound


class Pool:
    """The clips of one split, decoded, with what drawing from them needs."""

    def __init__(
        self,
        root: Path,
        split: str,
        sample_rate: int,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Decode every clip of `split`; none where it is "".

        Raises:
            UsageError: no manifest, no clip of the split, or a clip is missing.
            AudioError: a clip cannot be read.
        """
        self.root, self.sample_rate = root, sample_rate
        self.hashes: dict[str, str] = {}
        self._decoded = DecodedFiles(cache or cache_folder(), sample_rate)
        listed = read_manifest(root, split) if split else []
        self.clips: list[Clip] = []
        for number, clip in enumerate(listed, 1):
            self.add(clip.file)
            if self._sounds(clip.file):
                self.clips.append(clip)
            if progress is not None:
                progress(number, len(listed))
        self.of_label: dict[str, list[Clip]] = {}
        for clip in sorted(self.clips, key=lambda clip: clip.label):
            self.of_label.setdefault(clip.label, []).append(clip)

    def add(self, file: str) -> str:
        """Decode a file below the root, and give its name back."""
        path = self.root / file
        if not path.is_file():
            raise UsageError(f"{path} is missing; a benchmark is drawn from all clips of its split")
        self.hashes[file] = file_sha256(path)
        self._decoded.decode(path, self.hashes[file])
        return file

    def length(self, file: str) -> int:
        """Samples of a clip."""
        return self._decoded.shape(self.hashes[file])[1]

    def channels(self, file: str) -> int:
        """Channels of a clip."""
        return self._decoded.shape(self.hashes[file])[0]

    def samples(self, piece: Piece) -> Tensor:
        """(T,) mono samples of a piece at its gain."""
        crop = self._decoded.crop(self.hashes[piece.file], piece.start, piece.length)
        return crop.mean(0) * piece.gain

    def energy(self, piece: Piece) -> float:
        """Sum of the squared samples of a piece at its gain."""
        return float(self.samples(piece).double().square().sum())

    def sum(self, pieces: Iterable[Piece], length: int) -> Tensor:
        """(length,) mono sum of pieces, each at its place."""
        total = torch.zeros(length)
        for piece in pieces:
            total[piece.at : piece.at + piece.length] += self.samples(piece)
        return total

    def used(self, items: Iterable[Item]) -> dict[str, str]:
        """The files that items need, examples as well, and their sha256; sorted."""
        files = set()
        for item in items:
            examples = [ask.example for ask in item.queries if ask.example is not None]
            files |= {piece.file for piece in (*item.pieces, *examples)}
        return {file: self.hashes[file] for file in sorted(files)}

    def piece(self, file: str, length: int, draw: Random) -> Piece:
        """`length` samples of a clip from where it sounds; a shorter clip whole, somewhere in `length`.

        Clips are often silence after one hit: a crop starts at random where it holds at least `HEARD` of the
        energy of the loudest one.
        """
        whole = self.length(file)
        if whole <= length:
            return Piece(file, 0, whole, integer(length - whole + 1, draw), 1.0)
        starts = torch.arange(0, whole - length + 1, round(FRAME * self.sample_rate))
        power = self.samples(Piece(file, 0, whole, 0, 1.0)).double().square()
        total = torch.nn.functional.pad(power.cumsum(0), (1, 0))
        held = total[starts + length] - total[starts]
        heard = starts[held >= HEARD * held.max()].tolist()
        return Piece(file, one_of(heard, draw), length, 0, 1.0)

    def labels_apart(self, count: int, draw: Random) -> list[str]:
        """Labels of which no two are alike, and that have clips of different recordings.

        A label is drawn by the square root of its number of clips: evenly, a label of one clip would sound
        in every fifteenth mixture of six; by clips, speech would be a fifth of everything.

        Raises:
            UsageError: the split has too few of them.
        """
        for _ in range(TRIES):
            chosen: list[str] = []
            groups: set[str] = set()
            while len(chosen) < count:
                free = [
                    label
                    for label, clips in self.of_label.items()
                    if not any(alike(label, other) for other in chosen)
                    and any(clip.group not in groups for clip in clips)
                ]
                if not free:
                    break
                weights = [len(self.of_label[label]) ** 0.5 for label in free]
                chosen.append(_weighted(free, weights, draw))
                groups |= {clip.group for clip in self.of_label[chosen[-1]]}
            else:
                return chosen
        raise UsageError(
            f"{count} labels that a listener can tell apart are wanted, the {len(self.of_label)} labels of "
            f"{self.root / 'manifest.csv'} have no such set; add clips of other sounds"
        )

    def _sounds(self, file: str) -> bool:
        samples = self.samples(Piece(file, 0, self.length(file), 0, 1.0))
        loudest = torch.stack([part.square().sum() for part in samples.split(self.sample_rate)]).max()
        return float(loudest / min(len(samples), self.sample_rate)) > QUIETEST**2


def alike(one: str, two: str) -> bool:
    """Whether a listener could take one label for the other, or find one in a recording of the other.

    Such labels are never mixed, nor is one asked for as absent while the other sounds. They are alike if
    they share a word, if the table of the trained labels says that they overlap, or if a group of
    words.json holds both.
    """
    return bool(_words(one) & _words(two)) or two in _overlaps().get(one, ())


def wordings() -> dict[str, list[str]]:
    """For each label of the frozen benchmarks, ways to ask for it that no training query uses."""
    found: dict[str, list[str]] = _table("unweave.evaluate", "lists/words.json")["reworded"]
    return found


def several_speakers() -> frozenset[str]:
    """Groups of speech clips that are not one person."""
    return frozenset(_table("unweave.evaluate", "lists/words.json")["several_speakers"])


@once
def _words(label: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]{3,}", label.lower())) - _JOINING


@once
def _overlaps() -> dict[str, set[str]]:
    found = {
        label: set(facts["overlaps"])
        for label, facts in _table("unweave.data", "labels.json").items()
        if "overlaps" in facts
    }
    for group in _table("unweave.evaluate", "lists/words.json")["alike"]:
        for label in group:
            found.setdefault(label, set()).update(group)
    return found


@once
def _table(package: str, path: str) -> dict[str, Any]:
    text = resources.files(package).joinpath(path).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def snr_db(source: Tensor, rest: Tensor) -> float | None:
    """Power of (T,) samples over that of others, in dB to two digits; None where either is silent."""
    power, other = (float(part.double().square().sum()) for part in (source, rest))
    return round(10 * math.log10(power / other), 2) if power and other else None


def uniform(low: float, high: float, draw: Random) -> float:
    """A number between two."""
    return low + (high - low) * draw.random()


def integer(below: int, draw: Random) -> int:
    """A whole number from 0, below another."""
    return int(draw.random() * below)


def one_of(choices: Sequence[Choice], draw: Random) -> Choice:
    """One of several, all alike."""
    return choices[integer(len(choices), draw)]


def _weighted(choices: Sequence[Choice], weights: Sequence[float], draw: Random) -> Choice:
    place = draw.random() * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        place -= weight
        if place < 0:
            return choice
    return choices[-1]
