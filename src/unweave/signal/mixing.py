"""Levels in decibels, mixing at a given signal-to-noise ratio, and fades."""

import math

import torch
from torch import Tensor

from unweave.errors import UsageError


def gain_from_db(gain_db: float) -> float:
    """Amplitude factor of a gain in dB.

    >>> gain_from_db(-20)
    0.1
    """
    return float(10 ** (gain_db / 20))


def db_from_gain(gain: float) -> float:
    """Gain in dB of an amplitude factor, 0 or more; -inf for 0.

    >>> db_from_gain(10), db_from_gain(0)
    (20.0, -inf)
    """
    return 20 * math.log10(gain) if gain > 0 else -math.inf


def peak_dbfs(samples: Tensor) -> float:
    """Level of the largest sample of (...), in dB below full scale = 1.0; -inf for silence or nothing."""
    return db_from_gain(samples.abs().max().item() if samples.numel() else 0.0)


def rms_dbfs(samples: Tensor) -> float:
    """Root mean square over all of (...), in dB; a full-scale sine is -3.01, silence -inf."""
    return db_from_gain(samples.double().square().mean().sqrt().item() if samples.numel() else 0.0)


def mix_at_snr(target: Tensor, interferer: Tensor, snr_db: float) -> tuple[Tensor, Tensor]:
    """Bring `interferer` to `snr_db` below `target`, and add the two.

    The target keeps its level, so that a loss on it does not depend on the ratio that was drawn.

    Args:
        target: (..., T) samples.
        interferer: (..., T) samples, same shape.
        snr_db: power of the target over that of the interferer, in dB over everything; below 0 the
            interferer is the louder one.

    Returns:
        The mixture, and the interferer as it is in it.

    Raises:
        UsageError: the shapes differ, or one of the two is silent and no gain reaches `snr_db`.

    >>> mixture, quiet = mix_at_snr(torch.ones(4), torch.full((4,), 7.0), snr_db=20)
    >>> quiet
    tensor([0.1000, 0.1000, 0.1000, 0.1000])
    """
    if target.shape != interferer.shape:
        raise UsageError(
            f"target {tuple(target.shape)} and interferer {tuple(interferer.shape)} differ in shape; "
            f"cut or pad one of them"
        )
    target_db, interferer_db = rms_dbfs(target), rms_dbfs(interferer)
    if -math.inf in (target_db, interferer_db):
        silent = "target" if target_db == -math.inf else "interferer"
        raise UsageError(f"no gain mixes at {snr_db} dB when the {silent} is silent; draw another clip")
    scaled = interferer * gain_from_db(target_db - interferer_db - snr_db)
    return target + scaled, scaled


def fade(length: int, fade_in: int, fade_out: int) -> Tensor:
    """Raised-cosine gain over (length,) samples, from silence over `fade_in` and back over `fade_out`.

    A fade out laid over a fade in of the same length sums to 1 everywhere. A fade longer than `length` is
    cut short, not compressed, and where the two meet the lower gain counts.

    >>> fade(6, fade_in=2, fade_out=2)
    tensor([0.1464, 0.8536, 1.0000, 1.0000, 0.8536, 0.1464])
    """
    # Half a sample in, so that rise and fall mirror each other.
    index = torch.arange(length) + 0.5
    rise, fall = (
        0.5 - 0.5 * (torch.pi * (index / samples).clamp(max=1)).cos() if samples else torch.ones(length)
        for samples in (fade_in, fade_out)
    )
    return torch.minimum(rise, fall.flip(0))
