"""Means with intervals: what a table says of many answers, and how sure it is.

Answers about one mixture share its clips and its difficulty, so they are drawn together: mixtures are
resampled, never single answers (Efron and Tibshirani, "An introduction to the bootstrap", 1993).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 1 << 22  # numbers drawn at a time; bounds the memory, not the result


@dataclass(frozen=True)
class Estimate:
    """A mean over answers, where it may lie, and over how many; NaN where nothing can be said."""

    mean: float
    low: float  # of the interval; NaN below two mixtures
    high: float
    median: float
    count: int  # answers with a value
    undefined: int  # answers without one, left out of everything above

    @property
    def half_width(self) -> float:
        """Of the interval, for writing ``mean ± half_width``."""
        return (self.high - self.low) / 2


def estimate(values: Sequence[float], mixtures: Sequence[Hashable], seed: int = 0) -> Estimate:
    """Mean, 95 % bootstrap interval over mixtures and median of `values`.

    Args:
        values: one per answer; what is not finite counts as undefined and is left out.
        mixtures: which mixture each answer is about; answers of one mixture are drawn together.
        seed: of the resampling; the same seed gives the same interval.

    >>> estimate([1.0, 3.0, float("nan")], ["a", "b", "b"]).mean
    2.0
    """
    pairs = [(value, key) for value, key in zip(values, mixtures, strict=True) if math.isfinite(value)]
    undefined = len(values) - len(pairs)
    if not pairs:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0, undefined)
    # Sorted, so that neither sum nor interval depends on the order in which workers finished.
    pairs.sort(key=lambda pair: (str(pair[1]), pair[0]))
    kept = torch.tensor([value for value, _ in pairs], dtype=torch.float64)
    low, high = _interval(kept, [key for _, key in pairs], seed)
    middle = float(torch.quantile(kept, 0.5))
    return Estimate(float(kept.mean()), low, high, middle, len(pairs), undefined)


def difference(
    ours: Sequence[float], theirs: Sequence[float], mixtures: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """Mean of ``ours - theirs``, answer by answer, with its interval over mixtures.

    Paired: what makes a mixture hard for both cancels, so the interval is narrower than that of either mean.
    A pair of which one is undefined is undefined.
    """
    pairs = zip(ours, theirs, strict=True)
    return estimate([one - two for one, two in pairs], mixtures, seed)


def _interval(values: Tensor, keys: Sequence[Hashable], seed: int) -> tuple[float, float]:
    """Percentile interval of the mean of `values` when whole mixtures are drawn with replacement."""
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    count = len(number)
    if count < 2:
        return math.nan, math.nan
    place = torch.tensor([number[key] for key in keys])
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, place, values)
    sizes = torch.zeros(count, dtype=torch.float64).index_add_(0, place, torch.ones_like(values))
    draw = torch.Generator().manual_seed(seed)
    means = []
    for start in range(0, RESAMPLES, rows := max(1, _AT_ONCE // count)):
        chosen = torch.randint(count, (min(rows, RESAMPLES - start), count), generator=draw)
        means.append(sums[chosen].sum(1) / sizes[chosen].sum(1))
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = torch.quantile(torch.cat(means), tails).tolist()
    return low, high
