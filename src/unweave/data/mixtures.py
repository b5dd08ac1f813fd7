"""Mixtures drawn on the fly from labelled clips, with the questions to ask about them.

Each mixture is a function of a seed and its number, so that training resumes with the very data it
would have seen, and a validation set is the same in every run.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from unweave.data.manifest import Clip

Choice = TypeVar("Choice")
Prompts = Callable[[str], Sequence[str]]  # label -> the only ways to ask for it, one of which is drawn
PHRASES = (
    "the sound of {}",
    "sound of {}",
    "{} sound",
    "a {}",
    "the {}",
    "{} in the background",
    "{} can be heard",
    "only the {}",
    "noise of {}",
    "someone recorded {}",
)
KINDS = ("{}", "the sound of a {}", "a {}", "some kind of {}", "any {}")
PAIRS = ((0, 1), (2, 3))  # y1 = x1 + x2 and y2 = x3 + x4
GRID = 4000  # samples; lengths that an FFT resamples quickly are multiples of it


@dataclass(frozen=True)
class MixingConfig:
    """How training mixtures are drawn."""

    seconds: float = 3.056  # length of a mixture; 192 frames of 512 samples at 32 kHz, less one
    sources: tuple[float, ...] = (0.6, 0.25, 0.15)  # chance of 2, 3, 4 sources
    alone: float = 0.0  # chance of one source instead
    gain_db: float = 8.0  # each source lies within +- this of the first, over the whole mixture
    queries: int = 3  # asked about each mixture
    absent: float = 0.75  # chance that the last of them asks for what is not there
    pair: float = 0.15  # chance that a query asks for two sources at once, where there are three
    kind: float = 0.12  # chance that a query asks for a kind of sound, "a bird", whatever belongs to it
    evenness: float = 0.5  # labels are drawn by (number of groups) ** this; 0 = all alike
    familiar: float = 0.0  # and by (number of clips) ** this
    speed: float = 0.2  # clips are played up to this share faster or slower, pitch and all
    low_pass: float = 0.3  # chance that the whole mixture is cut at 3 to 12 kHz
    tilt_db: float = 6.0  # each source's spectrum is tilted and bent by up to this
    reverb: float = 0.25  # chance that a source sounds in a room
    levels: float = 0.0  # chance of four sources in two pairs, and of queries for these and for those


@dataclass(frozen=True)
class Mixture:
    """One drawn item: sources, and for each query its words and which sources it asks for."""

    sources: Tensor  # (K, T) linear samples
    labels: tuple[int, ...]  # K of them, numbers in `Labels`
    texts: tuple[str, ...]  # Q queries
    wanted: Tensor  # (Q, K) 1 where a query asks for a source; a row of zeros is an absent query
    cutoff_hz: float  # everything above is to be removed; 0 = nothing


class Mixtures(Protocol):
    """Where mixtures come from: each is a function of a seed and its number."""

    seed: int

    def draw(self, number: int) -> Mixture:
        """Mixture `number` of this seed."""
        ...


class Clips(Protocol):
    """Labelled clips that can be listened to in any order, `manifest.DecodedClips` or a pool from shards."""

    clips: Sequence[Clip]
    sample_rate: int

    def __getitem__(self, index: int) -> Tensor:
        """(T,) float32 samples of clip `index`, full scale = 1.0."""
        ...


MakeMixer = Callable[[Clips, int], "Mixer"]  # clips, seed -> their mixer


class Labels:
    """What is known of the training labels: other names, how they sound, their kinds, which of them overlap.

    Two labels overlap if a listener could call them the same, or if one may hold the other; the table
    comes with the package. They are never mixed, nor is one asked for as absent while the other plays.

    Args:
        labels: any number of times each.
        prompts: how labels are asked for; None: in all the ways of `wording`.
    """

    def __init__(self, labels: Sequence[str], prompts: Prompts | None = None) -> None:
        known = _known()
        self.names = sorted(set(labels))
        self.number = {name: index for index, name in enumerate(self.names)}
        facts = [known.get(name, {}) for name in self.names]
        self.other_names = [tuple(fact.get("names", ())) for fact in facts]
        self.sounds_like = [descriptions(name) for name in self.names]
        self.kinds = [frozenset(fact.get("kinds", ())) for fact in facts]
        self.prompts = [tuple(prompts(name)) for name in self.names] if prompts else []
        self.overlap = torch.eye(len(self.names), dtype=torch.bool)
        for index, name in enumerate(self.names):
            for other in known.get(name, {}).get("overlaps", ()):
                if other in self.number:
                    self.overlap[index, self.number[other]] = True
        words = [set(re.findall(r"[a-z]{3,}", name)) for name in self.names]
        for one, mine in enumerate(words):
            for two, others in enumerate(words):
                if mine & others:
                    self.overlap[one, two] = True

    def wording(self, label: int, draw: torch.Generator) -> str:
        """One of the ways to ask for a label: by name, in a phrase, told how it sounds, by its sound alone.

        What it sounds like is said in half of them: a label of a single recording is else learned by heart,
        and the words of a sound never met say nothing (OpenSep, section 3.2).
        """
        if self.prompts:
            return _one_of(self.prompts[label], draw)
        name, kind = self.names[label], _uniform(draw)
        if self.other_names[label] and _uniform(draw) < 0.4:
            name = _one_of(self.other_names[label], draw)
        if kind < 0.5 and self.sounds_like[label]:
            sound = _one_of(self.sounds_like[label], draw)
            return sound if kind < 0.15 else f"{name}: {sound}"
        return _one_of(PHRASES, draw).format(name) if kind > 0.85 else name


def known_labels() -> tuple[str, ...]:
    """The labels that the package knows, those that its weights were trained on.

    >>> "dog barking" in known_labels()
    True
    """
    return tuple(_known())


def descriptions(label: str) -> tuple[str, ...]:
    """How the sound of a label sounds, in several ways; none for a label that the package does not know.

    >>> len(descriptions("dog barking")), descriptions("quokka")
    (4, ())
    """
    return tuple(_known().get(label, {}).get("sounds_like", ()))


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    source = resources.files("unweave.data").joinpath("labels.json")
    known: dict[str, dict[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
    return known


class Mixer:
    """Draws mixtures of different labels from decoded clips."""

    def __init__(self, clips: Clips, config: MixingConfig, seed: int, prompts: Prompts | None = None) -> None:
        self.clips, self.config, self.seed = clips, config, seed
        self.labels = Labels([clip.label for clip in clips.clips], prompts)
        # Label -> group -> clips: a recording cut into ten clips is still one recording.
        self.of_label: list[dict[str, list[int]]] = [{} for _ in self.labels.names]
        for index, clip in enumerate(clips.clips):
            self.of_label[self.labels.number[clip.label]].setdefault(clip.group, []).append(index)
        groups = torch.tensor([len(groups) for groups in self.of_label]).double()
        clips_of = [sum(map(len, groups.values())) for groups in self.of_label]
        self.weights = groups**config.evenness * torch.tensor(clips_of).double() ** config.familiar
        self.length = round(config.seconds * clips.sample_rate)

    def draw(self, number: int) -> Mixture:
        """Mixture `number` of this seed."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        config = self.config
        count = 2 + int(torch.multinomial(torch.tensor(config.sources), 1, generator=draw))
        if config.alone and _uniform(draw) < config.alone:
            count = 1
        paired = bool(config.levels) and _uniform(draw) < config.levels
        labels = self._different(4 if paired else count, draw)
        count = len(labels)
        sources = torch.stack([self._source(label, draw) for label in labels])
        power = sources.square().mean(1, keepdim=True).clamp(min=1e-12)
        gains = (torch.rand(count, 1, generator=draw) * 2 - 1) * config.gain_db
        gains[0] = 0
        sources = sources * (10 ** (gains / 20) / power.sqrt())
        paired = paired and count == 4  # a small corpus may have no four labels that go together
        texts, wanted = self._levels(labels, draw) if paired else self._questions(labels, draw)
        cut = _uniform(draw) < config.low_pass
        cutoff = 3000 * 4 ** _uniform(draw) if cut else 0.0
        return Mixture(sources, tuple(labels), tuple(texts), wanted, cutoff)

    def _different(self, count: int, draw: torch.Generator) -> list[int]:
        free, chosen = self.weights.clone(), []
        for _ in range(count):
            if not free.any():  # a small corpus may have no further label that overlaps none of these
                break
            label = int(torch.multinomial(free, 1, generator=draw))
            chosen.append(label)
            free[self.labels.overlap[label]] = 0
        return chosen

    def _questions(self, labels: list[int], draw: torch.Generator) -> tuple[list[str], Tensor]:
        """Words and wanted sources of every query: distinct sources first, then perhaps an absent one."""
        config, count = self.config, len(labels)
        order = torch.randperm(count, generator=draw).tolist()
        texts, wanted = [], torch.zeros(config.queries, count)
        for row in range(config.queries):
            if (absent := self._absent(row, labels, draw)) is not None:
                texts.append(absent)
                continue
            asked = [order[row % count]]
            kinds = sorted(self.labels.kinds[labels[asked[0]]])
            if kinds and _uniform(draw) < config.kind:
                kind = _one_of(kinds, draw)
                asked = [source for source in order if kind in self.labels.kinds[labels[source]]]
                texts.append(_one_of(KINDS, draw).format(kind))
            else:
                if count > 2 and _uniform(draw) < config.pair:
                    asked.append(order[(row + 1) % count])
                texts.append(" and ".join(self.labels.wording(labels[source], draw) for source in asked))
            wanted[row, asked] = 1
        return texts, wanted

    def _levels(self, labels: list[int], draw: torch.Generator) -> tuple[list[str], Tensor]:
        """The same for four sources in two pairs: sources and pairs in any order, each once in six queries.

        The multi-level mix-and-separate of OpenSep, section 3.4.
        """
        targets: list[tuple[int, ...]] = [*PAIRS, *((source,) for source in range(len(labels)))]
        order = torch.randperm(len(targets), generator=draw).tolist()
        texts, wanted = [], torch.zeros(self.config.queries, len(labels))
        for row in range(self.config.queries):
            if (absent := self._absent(row, labels, draw)) is not None:
                texts.append(absent)
                continue
            asked = targets[order[row % len(order)]]
            texts.append(" and ".join(self.labels.wording(labels[source], draw) for source in asked))
            wanted[row, list(asked)] = 1
        return texts, wanted

    def _absent(self, row: int, labels: list[int], draw: torch.Generator) -> str | None:
        """For some of the last queries, words for what is not there."""
        if row < self.config.queries - 1 or _uniform(draw) >= self.config.absent:
            return None
        free = self.weights.masked_fill(self.labels.overlap[labels].any(0), 0)
        if not free.any():
            return None
        return self.labels.wording(int(torch.multinomial(free, 1, generator=draw)), draw)

    def _source(self, label: int, draw: torch.Generator) -> Tensor:
        """(T,) a stretch of a random clip of `label`, where it sounds, sped up, slowed down or bent."""
        group = _one_of(list(self.of_label[label].values()), draw)
        clip = self.clips[_one_of(group, draw)]
        change = 1 + self.config.speed * (2 * _uniform(draw) - 1)
        wanted = max(1, round(self.length * change / GRID)) * GRID
        stretch = _sounding(clip, wanted, draw)
        spectrum = torch.fft.rfft(stretch)
        spectrum = _fit(spectrum, self.length // 2 + 1) * _bend(
            self.length // 2 + 1, self.config.tilt_db, draw
        )
        if _uniform(draw) < self.config.reverb:
            spectrum = spectrum * torch.fft.rfft(_room(self.length, self.clips.sample_rate, draw))
        return torch.as_tensor(torch.fft.irfft(spectrum, self.length))


def low_passed(samples: Tensor, cutoff_hz: float, sample_rate: int) -> Tensor:
    """(..., T) without what lies above `cutoff_hz`; 0: all of it.

    Much speech was recorded at 16 kHz, which must not give it away.
    """
    if not cutoff_hz:
        return samples
    length = samples.shape[-1]
    above = torch.fft.rfftfreq(length, 1 / sample_rate) - cutoff_hz
    return torch.as_tensor(torch.fft.irfft(torch.fft.rfft(samples) * torch.sigmoid(-above / 100), length))


def _sounding(clip: Tensor, length: int, draw: torch.Generator) -> Tensor:
    """`length` samples of a clip around a moment drawn by loudness; short clips are placed at random."""
    if len(clip) <= length:
        before = _integer(length - len(clip) + 1, draw)
        return torch.nn.functional.pad(clip, (before, length - len(clip) - before))
    frame = 1600
    level = clip[: len(clip) // frame * frame].view(-1, frame).square().mean(1).sqrt()
    moment = int(torch.multinomial(level + 1e-6 + 0.1 * level.mean(), 1, generator=draw)) * frame
    start = min(max(0, moment - _integer(length, draw)), len(clip) - length)
    return clip[start : start + length]


def _fit(spectrum: Tensor, bins: int) -> Tensor:
    return torch.nn.functional.pad(spectrum[:bins], (0, max(0, bins - len(spectrum))))


def _bend(bins: int, tilt_db: float, draw: torch.Generator) -> Tensor:
    """(bins,) smooth gain over frequency, five random points on a mel-like axis joined by lines."""
    points = (torch.rand(5, generator=draw) * 2 - 1) * tilt_db / 2
    place = torch.linspace(0, 1, bins).sqrt() * 3.999
    low = place.long()
    curve = points[low] + (points[low + 1] - points[low]) * (place - low)
    return torch.as_tensor(10 ** (curve / 20))


def _room(length: int, sample_rate: int, draw: torch.Generator) -> Tensor:
    """(length,) impulse response: the direct sound, and noise that falls by 60 dB in 0.1 to 0.8 s."""
    seconds = 0.1 * 8 ** _uniform(draw)
    echo = torch.randn(length, generator=draw) * 10 ** (-3 * torch.arange(length) / (seconds * sample_rate))
    echo *= 10 ** (-0.6 * _uniform(draw)) / echo.square().sum().sqrt()  # 0 to 12 dB below the direct sound
    echo[0] += 1
    return echo


def _one_of(choices: Sequence[Choice], draw: torch.Generator) -> Choice:
    return choices[_integer(len(choices), draw)]


def _uniform(draw: torch.Generator) -> float:
    return float(torch.rand((), generator=draw))


def _integer(below: int, draw: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=draw))
