"""Mixtures to measure on: frozen lists that come along, lists of users, and their sound.

A list says which clips sound when and how loud; the clips stay outside, below a data folder. Rendering an
item is a crop, a multiplication and a sum.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unweave.data.manifest import DecodedFiles, cache_folder
from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate.frozen import Ask, Benchmark, Item, Piece, decode, read, write
from unweave.hub import file_sha256
from unweave.types import Audio, Example, Query

__all__ = [
    "FOLDER",
    "Ask",
    "Benchmark",
    "Clips",
    "Item",
    "Piece",
    "examples",
    "load",
    "names",
    "present",
    "read",
    "render",
    "unasked",
    "write",
]

FOLDER = Path(__file__).parent / "lists"


def names() -> list[str]:
    """The benchmarks that come along."""
    return sorted(_hashes())


def load(name: str) -> Benchmark:
    """A benchmark that comes along, verified.

    Raises:
        UnknownNameError: there is none of this name; the nearest one is suggested.
        UsageError: its file is missing, or not the published one.
    """
    hashes = _hashes()
    if name not in hashes:
        raise UnknownNameError("benchmark", name, hashes)
    path = FOLDER / f"{name}.jsonl"
    content = path.read_bytes() if path.exists() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != hashes[name]:
        raise UsageError(
            f"{path} is not the published list: sha256 {found[:12]}, published {hashes[name][:12]}; "
            f"reinstall unweave"
        )
    return decode(content, str(path))


def _hashes() -> dict[str, str]:
    found: dict[str, str] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    return found


class Clips:
    """The clips of one benchmark below a data folder: verified, and decoded once for every later run.

    May be handed to other processes.
    """

    missing: tuple[str, ...]  # files that are not there; the items that need them are left out

    def __init__(
        self,
        benchmark: Benchmark,
        root: Path,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Verify every clip, decode those that were never decoded.

        Args:
            benchmark: whose clips.
            root: the data folder that the list's paths are relative to.
            cache: where decoded samples are kept; None: `cache_folder`.
            progress: told how many files of how many are done.

        Raises:
            UsageError: a file is not the one that the list was made with, or not one file is there.
            AudioError: a file cannot be read as sound.
        """
        self._hashes = dict(benchmark.files)
        self._decoded = DecodedFiles(cache or cache_folder(), benchmark.sample_rate)
        missing, changed = [], []
        for number, (file, sha256) in enumerate(benchmark.files.items(), 1):
            path = root / file
            if not path.is_file():
                missing.append(file)
            elif file_sha256(path) != sha256:
                changed.append(file)
            else:
                self._decoded.decode(path, sha256)
            if progress is not None:
                progress(number, len(benchmark.files))
        if changed:
            raise UsageError(
                f"{len(changed)} of the {len(self._hashes)} files of {benchmark.name!r} below {root} are not "
                f"the ones it was made with: {_some(changed)}; put the originals back, or build a list anew"
            )
        if len(missing) == len(self._hashes):
            raise UsageError(
                f"none of the {len(missing)} files of {benchmark.name!r} is below {root}, the first is "
                f"{missing[0]}; --data wants the folder that the paths of the list start in"
            )
        self.missing = tuple(missing)

    def ready(self, item: Item) -> bool:
        """Whether every clip that `item` needs is there."""
        asked = [ask.example for ask in item.queries if ask.example is not None]
        return not any(piece.file in self.missing for piece in (*item.pieces, *asked))

    def sound(self, piece: Piece, channels: int = 1) -> Tensor:
        """(channels, length) float32 samples of a piece, at its gain; channels are averaged, or one repeated.

        Raises:
            UsageError: its file is missing, ends before the piece does, or has other channels.
        """
        if piece.file in self.missing:
            raise UsageError(f"{piece.file} is missing; leave out the items for which `ready` is false")
        samples = self._decoded.crop(self._hashes[piece.file], piece.start, piece.length)
        if samples.shape[1] < piece.length:
            held = self._decoded.shape(self._hashes[piece.file])[1]
            raise UsageError(
                f"a piece wants samples {piece.start} to {piece.start + piece.length} of {piece.file}, which "
                f"has {held} at {self._decoded.sample_rate} Hz; the list was made for another rate or decoder"
            )
        if channels == 1 < len(samples):
            samples = samples.mean(0, keepdim=True)
        if len(samples) not in (1, channels):
            raise UsageError(f"{piece.file} has {len(samples)} channels, its item {channels}; make it mono")
        return samples.mul_(piece.gain).expand(channels, -1)


def render(benchmark: Benchmark, index: int, clips: Clips) -> Example:
    """Item `index` as sound.

    Returns:
        The mixture (C, T); for each query the sum of the sources it asks for (Q, C, T), silence where it
        asks for what is not there. The mixture is the sum of all sources, asked for or not.

    Raises:
        UsageError: as `Clips.sound`.
    """
    item = benchmark.items[index]
    mixture = torch.zeros(item.channels, item.length)
    # Pieces are added where they belong at once: ten minutes for twelve queries have no room for copies.
    answers = torch.zeros(len(item.queries), item.channels, item.length)
    for piece, source in zip(item.pieces, item.of, strict=True):
        samples, end = clips.sound(piece, item.channels), piece.at + piece.length
        mixture[:, piece.at : end] += samples
        for ask, answer in zip(item.queries, answers, strict=True):
            if source in ask.sources:
                answer[:, piece.at : end] += samples
    if item.low_pass_hz:
        mixture = low_passed(mixture, item.low_pass_hz, benchmark.sample_rate)
        for ask, answer in zip(item.queries, answers, strict=True):
            if ask.sources:
                answer.copy_(low_passed(answer, item.low_pass_hz, benchmark.sample_rate))
    return Example(
        id=item.id,
        mixture=mixture,
        sources=answers,
        queries=tuple(_query(ask, benchmark.sample_rate, clips) for ask in item.queries),
        sample_rate=benchmark.sample_rate,
    )


def unasked(benchmark: Benchmark, index: int, clips: Clips) -> Tensor | None:
    """What item `index` holds that no query asks for, (C, T); None where there is no such source.

    Raises:
        UsageError: as `Clips.sound`.
    """
    item = benchmark.items[index]
    asked = {source for ask in item.queries for source in ask.sources}
    pieces = [piece for piece, source in zip(item.pieces, item.of, strict=True) if source not in asked]
    if not pieces:
        return None
    rest = torch.zeros(item.channels, item.length)
    for piece in pieces:
        rest[:, piece.at : piece.at + piece.length] += clips.sound(piece, item.channels)
    return low_passed(rest, item.low_pass_hz, benchmark.sample_rate) if item.low_pass_hz else rest


def _query(ask: Ask, sample_rate: int, clips: Clips) -> Query:
    example = None if ask.example is None else Audio(clips.sound(ask.example), sample_rate)
    return Query(ask.text, example=example)


def low_passed(samples: Tensor, cutoff_hz: float, sample_rate: int) -> Tensor:
    """(..., T) without anything from `cutoff_hz` on: every bin of one long FFT is kept or dropped."""
    spectrum = torch.fft.rfft(samples)
    hertz = torch.linspace(0, sample_rate / 2, spectrum.shape[-1])
    if samples.shape[-1] % 2:
        hertz = hertz * (1 - 1 / samples.shape[-1])  # of an odd length, the last bin lies below half the rate
    return torch.as_tensor(torch.fft.irfft(spectrum * (hertz < cutoff_hz), samples.shape[-1]))


def examples(benchmark: Benchmark, root: Path, cache: Path | None = None) -> Iterator[tuple[Item, Example]]:
    """Every item whose clips are there, one after another.

    Warns (UserWarning) how many items are left out, and for which missing files.

    Raises:
        UsageError: as `Clips`.
    """
    clips = Clips(benchmark, root, cache)
    if clips.missing:
        left_out = sum(not clips.ready(item) for item in benchmark.items)
        warnings.warn(
            f"{benchmark.name}: {left_out} of {len(benchmark.items)} items are left out, "
            f"{len(clips.missing)} files are missing: {_some(clips.missing)}",
            UserWarning,
            stacklevel=2,
        )
    for index, item in enumerate(benchmark.items):
        if clips.ready(item):
            yield item, render(benchmark, index, clips)


def present(example: Example) -> Example:
    """The example without the queries whose source is silence."""
    there = [index for index, source in enumerate(example.sources) if source.any()]
    return replace(example, sources=example.sources[there], queries=tuple(example.queries[i] for i in there))


def _some(files: list[str] | tuple[str, ...]) -> str:
    return ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
