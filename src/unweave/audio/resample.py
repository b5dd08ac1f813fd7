"""Change the sample rate of a signal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr
import torch
from torch import Tensor

from unweave.errors import UsageError


def resample(samples: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling by libsoxr's HQ setting (stop band below -100 dB), without delay.

    Sample n of the result lies at the time of sample ``n * from_rate / to_rate`` of the input. Not
    differentiable.

    Args:
        samples: (..., T), any float type, any device.
        from_rate: Hz of `samples`.
        to_rate: Hz wanted.

    Returns:
        (..., L) on the device and in the type of `samples`, with L = T * to_rate / from_rate rounded to the
        nearest whole number, halves up; `samples` itself when the rates are equal.

    Raises:
        UsageError: a rate is not above 0.

    >>> resample(torch.zeros(2, 441), 44100, 32000).shape
    torch.Size([2, 320])
    """
    if from_rate < 1 or to_rate < 1:
        raise UsageError(f"resample wants rates in Hz above 0, got {from_rate} and {to_rate}")
    if from_rate == to_rate:
        return samples
    *leading, length = samples.shape
    wanted = (2 * length * to_rate + from_rate) // (2 * from_rate)
    lines = samples.detach().reshape(math.prod(leading), length)
    wide = samples.dtype == torch.float64
    rows = lines.to("cpu", torch.float64 if wide else torch.float32).numpy()
    result = np.zeros((len(rows), wanted), rows.dtype)
    if result.size:
        # soxr takes (time, channels); its own length may differ from ours by one sample.
        made = soxr.resample(np.ascontiguousarray(rows.T), from_rate, to_rate, quality="HQ").T[:, :wanted]
        result[:, : made.shape[1]] = made
    return torch.from_numpy(result).to(samples).reshape(*leading, wanted)


def resample_stream(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """`resample` for sound that arrives in pieces, in bounded memory.

    Args:
        blocks: successive (C, any length) float32 pieces of one recording.
        from_rate: Hz of the pieces.
        to_rate: Hz wanted.

    Yields:
        Successive (C, t) pieces, some of them empty; together `resample` of the whole, whose length may
        differ by one sample.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    stream = None
    channels = 0
    for block in blocks:
        if stream is None:
            channels = block.shape[0]
            stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")
        yield _pushed(stream, block, last=False)
    if stream is not None:
        yield _pushed(stream, torch.zeros(channels, 0), last=True)


def _pushed(stream: soxr.ResampleStream, block: Tensor, last: bool) -> Tensor:
    made = stream.resample_chunk(np.ascontiguousarray(block.float().T.numpy()), last=last)
    return torch.from_numpy(np.ascontiguousarray(made.T))
