"""Bins of a spectrum merged into bands, as networks hear them: fine low down, ever wider higher up."""

import functools
import itertools

import torch
from torch import Tensor


@functools.cache
def band_edges(bins: int, bands: int) -> tuple[int, ...]:
    """First bin of every band, and `bins` at the end: single bins, then a constant ratio.

    The number of single bins is the smallest that leaves no band empty.

    >>> band_edges(9, 5)
    (0, 1, 2, 3, 5, 9)
    >>> band_edges(3, 3)
    (0, 1, 2, 3)
    """
    if bins == bands:
        return tuple(range(bins + 1))
    for single in range(1, bands):
        ratio = (bins / single) ** (1 / (bands - single))
        if single * (ratio - 1) >= 1:
            break
    else:
        raise ValueError(f"cannot merge {bins} bins into {bands} bands")
    upper = [round(single * ratio**step) for step in range(bands - single + 1)]
    return (*range(single), *upper)


def band_matrix(bins: int, bands: int) -> Tensor:
    """(bands, bins) of 0 and 1: which bins each band adds up."""
    edges = band_edges(bins, bands)
    matrix = torch.zeros(bands, bins)
    for band, (first, end) in enumerate(itertools.pairwise(edges)):
        matrix[band, first:end] = 1
    return matrix
