"""Mixtures to measure on: the same ones from the same clips and seed, in every run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unweave.audio import read, resample
from unweave.data.manifest import Clip, read_manifest
from unweave.types import Example, Query


@dataclass(frozen=True)
class TwoSources:
    """Two sounds of different names at once, and three questions: for each of them, and for a third."""

    split: str = "dev"  # of the manifest
    count: int = 200  # mixtures
    seconds: float = 5.0
    gain_db: float = 5.0  # the second lies within +- this of the first, over the whole mixture
    sample_rate: int = 32_000  # Hz
    seed: int = 2026
    low_pass_hz: float = 0.0  # everything above is cut away; 0 = nothing


def two_sources(root: Path, config: TwoSources) -> Iterator[Example]:
    """Draw the examples of `config` from the manifest in `root`.

    The third query of every example asks for a sound that is not there; its source is silence. Labels that
    share a word are never mixed, nor asked for as absent: "dog barking" may well hold "dog growling".

    Raises:
        UsageError: there is no manifest, or it has no clip of the split.
    """
    clips = read_manifest(root, config.split)
    labels = sorted({clip.label for clip in clips})
    of_label = {label: [clip for clip in clips if clip.label == label] for label in labels}
    length = round(config.seconds * config.sample_rate)
    for number in range(config.count):
        draw = torch.Generator().manual_seed(config.seed * 100_003 + number)
        # Clips are drawn evenly, so that a common sound counts as often as it was recorded.
        first = clips[_integer(len(clips), draw)]
        others = [label for label in labels if not _alike(label, first.label)]
        second = _of(of_label, others, draw)
        absent = [label for label in others if not _alike(label, second.label)]
        sources = torch.stack([_crop(root / clip.file, length, config, draw) for clip in (first, second)])
        snr_db = (2 * float(torch.rand((), generator=draw)) - 1) * config.gain_db
        sources = _levelled(sources, snr_db)
        asked = (first.label, second.label, absent[_integer(len(absent), draw)])
        yield Example(
            id=f"{config.split}-2/{number}",
            mixture=sources.sum(0),
            sources=torch.cat([sources, torch.zeros_like(sources[:1])]),
            queries=tuple(Query(label) for label in asked),
            sample_rate=config.sample_rate,
        )


def present(example: Example) -> Example:
    """The example without the queries whose source is silence."""
    there = [index for index, source in enumerate(example.sources) if source.any()]
    return replace(example, sources=example.sources[there], queries=tuple(example.queries[i] for i in there))


def _of(of_label: dict[str, list[Clip]], labels: list[str], draw: torch.Generator) -> Clip:
    pool = [clip for label in labels for clip in of_label[label]]
    return pool[_integer(len(pool), draw)]


def _crop(path: Path, length: int, config: TwoSources, draw: torch.Generator) -> Tensor:
    """(1, length) mono samples of a clip from a random offset; a short one lies somewhere in silence."""
    audio = read(path)
    mono = resample(audio.samples.mean(0), audio.sample_rate, config.sample_rate)
    if config.low_pass_hz:
        spectrum = torch.fft.rfft(mono)
        hertz = torch.linspace(0, config.sample_rate / 2, len(spectrum))
        mono = torch.fft.irfft(spectrum * (hertz < config.low_pass_hz), len(mono))
    spare = length - len(mono)
    if spare < 0:
        start = _integer(-spare + 1, draw)
        return mono[None, start : start + length]
    before = _integer(spare + 1, draw)
    return torch.nn.functional.pad(mono, (before, spare - before))[None]


def _levelled(sources: Tensor, snr_db: float) -> Tensor:
    """Both at -26 dBFS and then the second `snr_db` lower; the sum does not reach full scale."""
    level = sources.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-9)
    gains = 10 ** (torch.tensor([0.0, -snr_db])[:, None, None] / 20)
    return sources / level * 0.05 * gains


def _alike(one: str, two: str) -> bool:
    words = [set(re.findall(r"[a-z]{4,}", label)) for label in (one, two)]
    return one == two or bool(words[0] & words[1])


def _integer(below: int, draw: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=draw))
