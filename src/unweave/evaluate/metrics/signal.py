"""Distances between waveforms, in dB: one number for each signal, higher is better.

The arithmetic is in float64, so that a value is right to 0.001 dB up to 140 dB. No metric adds a small
number to avoid a division by zero: what means nothing is NaN, and callers count NaNs instead of averaging.
"""

import torch
from torch import Tensor

from unweave.errors import UsageError

_NOTHING = 1e-24  # of the power before the mean was removed: a constant, to float64 rounding


def sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-distortion ratio: power of the reference over that of the error, gain errors included.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.

    Returns:
        (...) float64 dB: inf for a perfect estimate, 0 for a silent one, NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ.

    >>> sdr(torch.tensor([0.9, -0.9]), torch.tensor([1.0, -1.0])).round(decimals=3).item()
    20.0
    """
    _same_shape(estimate, reference)
    estimate, reference = estimate.double(), reference.double()
    power = _power(reference)
    return _db(power, _power(estimate - reference)).masked_fill(power == 0, torch.nan)


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio: no gain or offset of the estimate changes it.

    Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019, equation 5, with the
    means removed first.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.

    Returns:
        (...) float64 dB: without bound for a perfect estimate, -inf for a silent one, NaN where the reference
        is silent. A constant is silent here.

    Raises:
        UsageError: the shapes differ.

    >>> time = torch.arange(1000) * 2 * torch.pi / 100
    >>> si_sdr(7 * time.sin() + 0.7 * time.cos(), time.sin()).round(decimals=3).item()
    20.0
    """
    _same_shape(estimate, reference)
    estimate, reference = _centred(estimate), _centred(reference)
    power = _power(reference)
    gain = (estimate * reference).sum(-1) / power
    target = gain[..., None] * reference
    ratio = _db(_power(target), _power(estimate - target))
    silent = (estimate == 0).all(-1) & (power > 0)
    return ratio.masked_fill(silent, -torch.inf)


def sdr_improvement(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """SDR of the estimate minus that of the mixture; (..., T) each -> (...) dB, 0 for doing nothing.

    NaN where the reference is silent, or where both are perfect.
    """
    return sdr(estimate, reference) - sdr(mixture, reference)


def si_sdr_improvement(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """SI-SDR of the estimate minus that of the mixture; (..., T) each -> (...) dB, 0 for doing nothing.

    NaN where the reference is silent, or where both are perfect.
    """
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def attenuation_db(estimate: Tensor, mixture: Tensor) -> Tensor:
    """How far below the mixture an estimate lies: what to ask for where the sound is absent.

    Args:
        estimate: (..., T).
        mixture: (..., T), same shape.

    Returns:
        (...) float64 dB, 0 for doing nothing, inf for silence, NaN where the mixture is silent.

    Raises:
        UsageError: the shapes differ.

    >>> attenuation_db(torch.tensor([0.1, -0.1]), torch.tensor([1.0, -1.0])).round(decimals=3).item()
    20.0
    """
    _same_shape(estimate, mixture)
    power = _power(mixture.double())
    return _db(power, _power(estimate.double())).masked_fill(power == 0, torch.nan)


def _same_shape(estimate: Tensor, other: Tensor) -> None:
    if estimate.shape != other.shape:
        raise UsageError(
            f"an estimate is measured against a signal of its own shape, got {tuple(estimate.shape)} and "
            f"{tuple(other.shape)}; expand or cut one of them"
        )


def _power(samples: Tensor) -> Tensor:
    return samples.square().sum(-1)


def _db(power: Tensor, other: Tensor) -> Tensor:
    return 10 * (power / other).log10()


def _centred(samples: Tensor) -> Tensor:
    """(..., T) without its mean, in float64; a constant becomes exactly 0."""
    samples = samples.double()
    centred = samples - samples.mean(-1, keepdim=True)
    nothing = _power(centred) <= _NOTHING * _power(samples)
    return centred.masked_fill(nothing[..., None], 0)
