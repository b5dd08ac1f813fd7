"""What can be said of stems while they stream by: level, peak, and whether the sound was there at all.

Without ears there is only the share that a stem has of the mixture. With ears that is one of several signs,
weighed by a logistic regression (`weights/presence.json`, fitted by `unweave.train.presence`) into a
chance. A stem that is most likely not there is silenced.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.pipeline import presence
from unweave.pipeline.native import Native
from unweave.pipeline.rig import Ears, Rig
from unweave.types import LONGEST_QUERY, Query

if TYPE_CHECKING:
    from unweave.listen.tagger import Impression

BLOCK = 0.5  # seconds over which a stem's share of the mixture is taken
AUDIBLE_DB = 60.0  # a half second this far below the loudest one is background, its shares say nothing
LEAST_SHARE = 0.01  # a stem that takes less than this of every half second holds leakage, not the sound
FAINTEST = LEAST_SHARE  # shares below are alike: how faint leakage is says nothing
SUREST = 1e-3  # chances nearer than this to 0 or 1 are alike


@dataclass(frozen=True)
class Verdict:
    """Measurements of one stem."""

    level_dbfs: float | None  # RMS over all channels and samples; None: silent
    peak_dbfs: float | None  # largest magnitude; None: silent
    share: float  # 0..1, see `Tally`
    presence: float | None = None  # 0..1, the chance that the sound is there; None: nobody listened
    least: float = LEAST_SHARE  # score from which the sound counts as found

    @property
    def score(self) -> float:
        """How sure it is that the sound is there, 0..1: the chance, or where nobody listened the share."""
        return self.share if self.presence is None else self.presence

    @property
    def found(self) -> bool:
        """Whether the stem holds a sound of the mixture."""
        return self.score >= self.least

    @property
    def silenced(self) -> bool:
        """Whether the stem is to be silence; its loudness alone is no reason."""
        return self.presence is not None and not self.found


class Tally:
    """Energies, peaks and shares of Q stems, taken piece by piece in whatever lengths they come.

    The share of a stem is the largest share it has of the mixture's energy in any half second, within
    0..1. It says "somewhere in here this sound is clearly heard", so a single bark in an hour scores
    high; it is a measurement of the stem and not a probability. Half seconds more than 60 dB below the
    loudest are left out: there a share is a ratio of noise floors.
    """

    def __init__(self, stems: int, sample_rate: int) -> None:
        self._block = max(1, round(BLOCK * sample_rate))
        self._samples = 0  # channels times time
        # Numbers and not tensors: small tensors that stay, made between large ones that go, keep the heap
        # from being reused, and an hour of sound grows it by gigabytes.
        self._highest = [0.0] * stems
        self._lowest = [0.0] * stems
        self._filled = 0  # samples of the block that is not complete yet
        self._blocks = [[0.0] * (stems + 1)]  # energies: stems, then the mixture

    def add(self, mixture: Tensor, stems: Tensor) -> None:
        """Take the next piece: (C, t) and (Q, C, t)."""
        length = mixture.shape[-1]
        if length == 0:
            return
        self._samples += mixture.numel()
        self._highest = [max(old, stem.max().item()) for old, stem in zip(self._highest, stems, strict=True)]
        self._lowest = [min(old, stem.min().item()) for old, stem in zip(self._lowest, stems, strict=True)]
        start = 0
        while start < length:
            end = min(length, start + self._block - self._filled)
            for i, sound in enumerate([*stems, mixture]):
                self._blocks[-1][i] += sound[:, start:end].square().sum(dtype=torch.float64).item()
            self._filled += end - start
            start = end
            if self._filled == self._block:
                self._blocks.append([0.0] * len(self._blocks[-1]))
                self._filled = 0

    @property
    def highest(self) -> float:
        """Largest sample of any stem so far, 0 or above; full scale = 1."""
        return max(self._highest, default=0.0)

    @property
    def lowest(self) -> float:
        """Smallest sample of any stem so far, 0 or below."""
        return min(self._lowest, default=0.0)

    def verdicts(self) -> list[Verdict]:
        """One per stem, in order."""
        energies = torch.tensor(self._blocks, dtype=torch.float64)  # (blocks, Q + 1)
        if len(energies) > 1:  # the tail is too short to be judged alone
            energies[-2] += energies[-1]
            energies = energies[:-1]
        shares = _largest_shares(energies)
        verdicts = []
        for i, share in enumerate(shares):
            level = _level(energies[:, i].sum().item(), self._samples)
            peak = max(self._highest[i], -self._lowest[i])
            verdicts.append(Verdict(level, decibels(peak), share))
        return verdicts


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A few seconds of a recording."""

    mixture: Tensor  # (C, t)
    number: int  # excerpts with the same one have the same mixture


class Loudest:
    """For each of Q stems the piece in which it has most energy, kept to be listened to."""

    def __init__(self, stems: int) -> None:
        self._energy = [0.0] * stems
        self._pieces = 0
        self.excerpts: list[Excerpt | None] = [None] * stems  # None: the stem is silent
        self.stems: list[Tensor | None] = [None] * stems  # (C, t) each, of that excerpt

    def add(self, mixture: Tensor, stems: Tensor) -> None:
        """Take the next piece: (C, t) and (Q, C, t)."""
        here: Excerpt | None = None
        self._pieces += 1
        for i, stem in enumerate(stems):
            energy = stem.square().sum(dtype=torch.float64).item()
            if energy > self._energy[i]:
                here = here or Excerpt(mixture.clone(), self._pieces)
                self._energy[i], self.excerpts[i], self.stems[i] = energy, here, stem.clone()


def judged(
    verdicts: Sequence[Verdict], queries: Sequence[Query], loudest: Loudest, rig: Rig, sample_rate: int
) -> list[Verdict]:
    """Verdicts with the chance that each sound is there; a query without words keeps what it had."""
    model, found = rig.presence or presence.shipped(), signs(queries, loudest, rig, sample_rate)
    return [
        verdict if sign is None else replace(verdict, presence=float(model.chance(sign)), least=model.silence)
        for verdict, sign in zip(verdicts, found, strict=True)
    ]


def signs(queries: Sequence[Query], loudest: Loudest, rig: Rig, sample_rate: int) -> list[Tensor | None]:
    """What speaks for and against each sound, taken from the piece in which its stem is loudest.

    Args:
        queries: Q.
        loudest: of the Q sounds at `sample_rate` Hz.
        rig: with ears. The engine is asked once more, in other words: what it finds only under one name
            is less likely there.
        sample_rate: Hz.

    Returns:
        For each query float64 `presence.SIGNS`; None for one without words.
    """
    if rig.ears is None:
        raise UsageError("judging wants a listener; load one beside the engine")
    found: list[Tensor | None] = []
    mixtures: dict[int, Impression] = {}
    again = _asked_again(queries, loudest, rig, sample_rate)
    for i, query in enumerate(queries):
        excerpt, stem, name = loudest.excerpts[i], loudest.stems[i], query.text.strip()
        if not name:
            found.append(None)
        elif excerpt is None or stem is None:
            found.append(_signs(0.0, 0.0, [SUREST] * 3, 0.0))
        else:
            if excerpt.number not in mixtures:
                mixtures[excerpt.number] = rig.ears.follow([excerpt.mixture], sample_rate)
            heard = [
                _chance(rig.ears, rig.ears.follow([sound], sample_rate), name)
                for sound in (stem, excerpt.mixture - stem)
            ]
            heard.append(_chance(rig.ears, mixtures[excerpt.number], name))
            peak = shares_of(excerpt.mixture, stem[None], sample_rate)[0]
            whole = _energy(stem) / max(_energy(excerpt.mixture), 1e-20)
            found.append(_signs(peak, whole, heard, _stability(stem, again[i])))
    return found


def _signs(peak: float, share: float, heard: Sequence[float], stability: float) -> Tensor:
    sure = [math.log(p / (1 - p)) for p in (min(max(p, SUREST), 1 - SUREST) for p in heard)]
    shares = [math.log10(max(FAINTEST, min(1.0, value))) for value in (peak, share)]
    return torch.tensor([*shares, *sure, stability], dtype=torch.float64)


def _asked_again(
    queries: Sequence[Query], loudest: Loudest, rig: Rig, sample_rate: int
) -> list[Tensor | None]:
    """For each query its sound in its excerpt, asked for in other words; (C, t) each."""
    engine = Native(rig.separator, sample_rate)
    answers: list[Tensor | None] = [None] * len(queries)
    for number in sorted({excerpt.number for excerpt in loudest.excerpts if excerpt}):
        here = [i for i, excerpt in enumerate(loudest.excerpts) if excerpt and excerpt.number == number]
        asked = [i for i in here if queries[i].text.strip()]
        excerpt = loudest.excerpts[here[0]]
        if excerpt is None or not asked:
            continue
        words = [_reworded(queries[i]) for i in asked]
        for i, answer in zip(asked, engine.separate(excerpt.mixture, words), strict=True):
            answers[i] = answer
    return answers


def _reworded(query: Query) -> Query:
    text = f"the sound of {query.text.strip()}"[:LONGEST_QUERY]
    return replace(query, text=text, keep=True, spans=())


def _stability(stem: Tensor, again: Tensor | None) -> float:
    """The share of the stem that an answer to other words has too, 0..1."""
    energy = _energy(stem)
    if again is None or energy == 0:
        return 0.0
    common = (stem * again).sum(dtype=torch.float64).item()
    return min(1.0, max(0.0, common / max(energy, _energy(again))))


def _chance(ears: Ears, impression: "Impression", name: str) -> float:
    return float(ears.present(impression, [name])[0])


def _energy(samples: Tensor) -> float:
    return float(samples.square().sum(dtype=torch.float64))


def shares_of(mixture: Tensor, stems: Tensor, sample_rate: int) -> list[float]:
    """Shares of stems held in memory: (C, T) and (Q, C, T) -> Q numbers in 0..1.

    >>> speech = torch.ones(1, 800)
    >>> shares_of(2 * speech, torch.stack([speech, 0 * speech]), 800)
    [0.25, 0.0]
    """
    tally = Tally(len(stems), sample_rate)
    tally.add(mixture, stems)
    return [verdict.share for verdict in tally.verdicts()]


def decibels(magnitude: float) -> float | None:
    """20 log10, and None for 0, which has no level."""
    return 20 * math.log10(magnitude) if magnitude > 0 else None


def _level(energy: float, samples: int) -> float | None:
    return decibels(math.sqrt(energy / samples)) if samples else None


def _largest_shares(energies: Tensor) -> list[float]:
    """(blocks, Q + 1) energies, the mixture's last -> Q shares."""
    whole = energies[:, -1]
    loudest = whole.max()
    if loudest == 0:
        return [0.0] * (energies.shape[1] - 1)
    heard = whole >= loudest * 10 ** (-AUDIBLE_DB / 10)
    shares: list[float] = (energies[heard, :-1] / whole[heard, None]).amax(0).clamp(0, 1).tolist()
    return shares
