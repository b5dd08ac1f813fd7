"""What can be said of stems while they stream by: level, peak, and whether the sound was there at all."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 0.5  # seconds over which a stem's share of the mixture is taken
AUDIBLE_DB = 60.0  # a half second this far below the loudest one is background, its shares say nothing
LEAST_SHARE = 0.01  # a stem that takes less than this of every half second holds leakage, not the sound


@dataclass(frozen=True)
class Verdict:
    """Measurements of one stem."""

    level_dbfs: float | None  # RMS over all channels and samples; None: silent
    peak_dbfs: float | None  # largest magnitude; None: silent
    score: float  # 0..1

    @property
    def found(self) -> bool:
        """Whether the stem is loud enough, somewhere, to hold a sound of the mixture."""
        return self.score >= LEAST_SHARE


class Tally:
    """Energies, peaks and scores of Q stems, taken piece by piece in whatever lengths they come.

    The score of a stem is the largest share it has of the mixture's energy in any half second, within
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
        for i, score in enumerate(shares):
            level = _level(energies[:, i].sum().item(), self._samples)
            peak = max(self._highest[i], -self._lowest[i])
            verdicts.append(Verdict(level, decibels(peak), score))
        return verdicts


def scores(mixture: Tensor, stems: Tensor, sample_rate: int) -> list[float]:
    """Scores of stems held in memory: (C, T) and (Q, C, T) -> Q numbers in 0..1.

    >>> speech = torch.ones(1, 800)
    >>> scores(2 * speech, torch.stack([speech, 0 * speech]), 800)
    [0.25, 0.0]
    """
    tally = Tally(len(stems), sample_rate)
    tally.add(mixture, stems)
    return [verdict.score for verdict in tally.verdicts()]


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
