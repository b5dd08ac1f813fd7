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
SHORTEST = 1.0  # seconds; shares of shorter excerpts say little
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
    """A few seconds of a recording in which a sound was asked for, and what its stem has there."""

    number: int  # of the piece, counted from 1
    piece: Tensor  # (C, t) of the recording
    first: int  # sample of the piece at which the excerpt begins
    last: int  # and before which it ends
    stem: Tensor  # (C, last - first)
    energy: float  # of the stem
    whole: float  # energy of the recording there

    @property
    def mixture(self) -> Tensor:
        """(C, last - first) the recording."""
        return self.piece[:, self.first : self.last]

    @property
    def share(self) -> float:
        """0..1, how much of the recording is in the stem."""
        return min(1.0, self.energy / max(self.whole, 1e-20))

    @property
    def power(self) -> float:
        """Of the recording there, per sample."""
        return self.whole / max(1, self.mixture.numel())


class Loudest:
    """For each of Q stems two excerpts, kept to be listened to: of most energy, and of the largest share.

    What leaks into a stem under a loud sound may have more energy than the sound itself has elsewhere; there
    the sound has the larger share. Excerpts lie within the spans of their query, where the stem is whole.
    """

    def __init__(self, queries: Sequence[Query], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._queries = queries
        self._start = 0  # samples heard so far
        self._pieces = 0
        self._power = 0.0  # of the loudest piece
        self._loudest: list[Excerpt | None] = [None] * len(queries)  # None: the stem is silent
        self._clearest: list[Excerpt | None] = [None] * len(queries)

    def add(self, mixture: Tensor, stems: Tensor) -> None:
        """Take the next piece: (C, t) and (Q, C, t)."""
        self._pieces += 1
        self._power = max(self._power, _energy(mixture) / max(1, mixture.numel()))
        held: Tensor | None = None  # one copy for all that keep this piece
        for i, stem in enumerate(stems):
            for first, last in self._asked(self._queries[i], mixture.shape[-1]):
                energy = _energy(stem[:, first:last])
                if energy == 0:
                    continue
                whole = _energy(mixture[:, first:last])
                new = Excerpt(self._pieces, mixture, first, last, stem[:, first:last], energy, whole)
                louder = _louder(new, self._loudest[i])
                clearer = self._clearer(new, self._clearest[i])
                if louder or clearer:
                    held = mixture.clone() if held is None else held
                    new = replace(new, piece=held, stem=new.stem.clone())
                self._loudest[i] = new if louder else self._loudest[i]
                self._clearest[i] = new if clearer else self._clearest[i]
        self._start += mixture.shape[-1]

    def of(self, stem: int) -> list[Excerpt]:
        """None of a silent stem; one where the two are the same, or the second one is background."""
        loudest, clearest = self._loudest[stem], self._clearest[stem]
        if loudest is None:
            return []
        if clearest is None or clearest is loudest or not self._usable(clearest):
            return [loudest]
        return [loudest, clearest]

    def _asked(self, query: Query, length: int) -> list[tuple[int, int]]:
        """Where the next `length` samples may have the sound, counted from the first of them."""
        if not query.spans:
            return [(0, length)]
        ends = [
            (round(start * self.sample_rate) - self._start, round(end * self.sample_rate) - self._start)
            for start, end in query.spans
        ]
        return [(max(0, first), min(length, last)) for first, last in ends if first < length and last > 0]

    def _clearer(self, new: Excerpt, old: Excerpt | None) -> bool:
        return old is None or (self._usable(new), new.share) > (self._usable(old), old.share)

    def _usable(self, excerpt: Excerpt) -> bool:
        """Whether a share there says something: neither background nor a short end."""
        audible = excerpt.power >= self._power * 10 ** (-AUDIBLE_DB / 10)
        return audible and excerpt.last - excerpt.first >= SHORTEST * self.sample_rate


def _louder(new: Excerpt, old: Excerpt | None) -> bool:
    return old is None or new.energy > old.energy


def judged(
    verdicts: Sequence[Verdict], queries: Sequence[Query], loudest: Loudest, rig: Rig
) -> list[Verdict]:
    """Verdicts with the chance that each sound is there, the largest that one of its excerpts gives.

    A query without words keeps what it had.
    """
    model, found = rig.presence or presence.shipped(), signs(queries, loudest, rig)
    return [
        verdict
        if sign is None
        else replace(verdict, presence=float(model.chance(sign).max()), least=model.silence)
        for verdict, sign in zip(verdicts, found, strict=True)
    ]


def signs(queries: Sequence[Query], loudest: Loudest, rig: Rig) -> list[Tensor | None]:
    """What speaks for and against each sound, taken from the excerpts of its stem.

    Args:
        queries: Q.
        loudest: of the Q sounds.
        rig: with ears. The engine is asked once more, in other words: what it finds only under one name
            is less likely there.

    Returns:
        For each query float64 (1 or 2 excerpts, `presence.SIGNS`), the excerpt of most energy first; None
        for one without words.
    """
    if rig.ears is None:
        raise UsageError("judging wants a listener; load one beside the engine")
    ears, rate = rig.ears, loudest.sample_rate
    names = [query.text.strip() for query in queries]
    excerpts = [loudest.of(i) if name else [] for i, name in enumerate(names)]
    mixtures: dict[tuple[int, int, int], Impression] = {}
    again = _asked_again(queries, excerpts, rig, rate)
    found: list[Tensor | None] = []
    for i, name in enumerate(names):
        rows = []
        for one in excerpts[i]:
            place = one.number, one.first, one.last
            if place not in mixtures:
                mixtures[place] = ears.follow([one.mixture], rate)
            heard = [
                _chance(ears, ears.follow([sound], rate), name)
                for sound in (one.stem, one.mixture - one.stem)
            ]
            heard.append(_chance(ears, mixtures[place], name))
            peak = shares_of(one.mixture, one.stem[None], rate)[0]
            stability = _stability(one.stem, again[i, one.number][:, one.first : one.last])
            rows.append(_signs(peak, one.share, heard, stability))
        silent = _signs(0.0, 0.0, [SUREST] * 3, 0.0)
        found.append(torch.stack(rows or [silent]) if name else None)
    return found


def _signs(peak: float, share: float, heard: Sequence[float], stability: float) -> Tensor:
    sure = [math.log(p / (1 - p)) for p in (min(max(p, SUREST), 1 - SUREST) for p in heard)]
    shares = [math.log10(max(FAINTEST, min(1.0, value))) for value in (peak, share)]
    return torch.tensor([*shares, *sure, stability], dtype=torch.float64)


def _asked_again(
    queries: Sequence[Query], excerpts: Sequence[Sequence[Excerpt]], rig: Rig, sample_rate: int
) -> dict[tuple[int, int], Tensor]:
    """The sounds in the pieces of their excerpts, asked for in other words: (query, piece) -> (C, t)."""
    engine = Native(rig.separator, sample_rate)
    pieces = {one.number: one.piece for some in excerpts for one in some}
    answers: dict[tuple[int, int], Tensor] = {}
    for number in sorted(pieces):
        asked = [i for i, some in enumerate(excerpts) if any(one.number == number for one in some)]
        words = [_reworded(queries[i]) for i in asked]
        for i, answer in zip(asked, engine.separate(pieces[number], words), strict=True):
            answers[i, number] = answer
    return answers


def _reworded(query: Query) -> Query:
    text = f"the sound of {query.text.strip()}"[:LONGEST_QUERY]
    return replace(query, text=text, keep=True, spans=())


def _stability(stem: Tensor, again: Tensor) -> float:
    """The share of the stem that an answer to other words has too, 0..1."""
    energy = _energy(stem)
    if energy == 0:
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
