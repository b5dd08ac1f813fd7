"""Masks: what share of every bin, or of every sample, belongs to a sound."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unweave.errors import UsageError


def ratio_mask(target_power: Tensor, rest_power: Tensor) -> Tensor:
    """The ideal ratio mask, the root of the target's share of the power.

    Wang, Narayanan and Wang, "On training targets for supervised speech separation", 2014.

    Args:
        target_power: (...) squared magnitudes, 0 or more.
        rest_power: (...) of everything else, same shape.

    Returns:
        (...) in [0, 1]; 0 where both are silent.

    >>> ratio_mask(torch.tensor([9.0, 1.0, 0.0]), torch.tensor([0.0, 3.0, 0.0]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    total = target_power + rest_power
    return (target_power / total).where(total > 0, torch.zeros_like(total)).sqrt()


def share(masks: Tensor, keep: Tensor) -> Tensor:
    """Scale kept masks down where together they take more than there is.

    Args:
        masks: (Q, F, N) in [0, 1].
        keep: (Q,) bool; masks of the others are handed back as they are.

    Returns:
        (Q, F, N) new masks; the kept ones sum to at most 1 in every bin, in the proportions they had.

    Raises:
        UsageError: `keep` is not one truth value for each mask.

    >>> share(torch.tensor([0.9, 0.6, 0.8]).view(3, 1, 1), torch.tensor([True, True, False])).flatten()
    tensor([0.6000, 0.4000, 0.8000])
    """
    if keep.shape != masks.shape[:1] or keep.dtype != torch.bool:
        raise UsageError(
            f"keep wants {len(masks)} bools, one for each mask, got {keep.dtype} {tuple(keep.shape)}"
        )
    if int(keep.sum()) < 2:  # one mask alone is never above 1
        return masks.clone()
    crowd = sum(
        (mask for mask, kept in zip(masks, keep.tolist(), strict=True) if kept), torch.zeros_like(masks[0])
    )
    fair = crowd.clamp_(min=1).reciprocal_()
    return torch.where(keep[:, None, None], masks * fair, masks)


def span_gain(
    spans: Sequence[tuple[float, float]], length: int, sample_rate: int, fade: float = 0.02
) -> Tensor:
    """A gain over time that lets sound through inside the spans only.

    The raised-cosine edges lie outside the spans: what was asked for, its attack included, is untouched.

    Args:
        spans: (start, end) in seconds, in any order; they may overlap. () means anywhere.
        length: samples.
        sample_rate: Hz.
        fade: seconds of each edge; 0 cuts hard.

    Returns:
        (length,) float32 in [0, 1]; all ones for no spans.

    >>> span_gain([(2, 4)], length=7, sample_rate=1, fade=2)
    tensor([0.0000, 0.5000, 1.0000, 1.0000, 1.0000, 0.5000, 0.0000])
    """
    if not spans:
        return torch.ones(length)
    gain = torch.zeros(length)
    for start, end in spans:
        first = max(0, int((start - fade) * sample_rate))
        until = min(length, int((end + fade) * sample_rate) + 2)
        if first >= until:
            continue
        time = torch.arange(first, until, dtype=torch.float64) / sample_rate
        outside = torch.maximum(start - time, time - end).clamp(min=0)  # seconds from the span
        edge = 0.5 + 0.5 * (torch.pi * (outside / fade).clamp(max=1)).cos() if fade else outside <= 0
        here = gain[first:until]
        torch.maximum(here, edge.to(gain), out=here)
    return gain
