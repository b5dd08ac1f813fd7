"""Distances between waveforms, in dB: one number for each signal, higher is better.

The arithmetic is in float64, so that a value is right to 0.001 dB up to 140 dB. No metric adds a small
number to avoid a division by zero: what means nothing is NaN, and callers count NaNs instead of averaging.

Two rules hold for every metric of this package that takes a pair of signals, and `check_pair` keeps them: the
two have the same shape, and every sample is a finite number. Anything else is refused, never repaired.
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
        UsageError: the shapes differ, or a sample is NaN or infinite.

    >>> sdr(torch.tensor([0.9, -0.9]), torch.tensor([1.0, -1.0])).round(decimals=3).item()
    20.0
    """
    check_pair(estimate, reference)
    error = estimate.to(torch.float64, copy=True)
    error -= reference
    power = _power(reference.double())
    return _db(power, _power(error)).masked_fill(power == 0, torch.nan)


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
        UsageError: the shapes differ, or a sample is NaN or infinite.

    >>> time = torch.arange(1000) * 2 * torch.pi / 100
    >>> si_sdr(7 * time.sin() + 0.7 * time.cos(), time.sin()).round(decimals=3).item()
    20.0
    """
    check_pair(estimate, reference)
    estimate, reference = _centred(estimate), _centred(reference)
    power = _power(reference)
    gain = torch.linalg.vecdot(estimate, reference) / power
    # The error is formed sample by sample: the powers alone would cancel above some 80 dB.
    error = torch.addcmul(estimate, gain[..., None], reference, value=-1)
    silent = (_power(estimate) == 0) & (power > 0)
    return _db(gain.square() * power, _power(error)).masked_fill(silent, -torch.inf)


def sdr_improvement(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """SDR of the estimate minus that of the mixture; (..., T) each -> (...) dB, 0 for doing nothing.

    NaN where the reference is silent, or where both are perfect. Raises UsageError as `sdr` does.
    """
    check_pair(mixture, reference, "mixture")
    return sdr(estimate, reference) - sdr(mixture, reference)


def si_sdr_improvement(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """SI-SDR of the estimate minus that of the mixture; (..., T) each -> (...) dB, 0 for doing nothing.

    NaN where the reference is silent, or where both are perfect. Raises UsageError as `si_sdr` does.
    """
    check_pair(mixture, reference, "mixture")
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def attenuation_db(estimate: Tensor, mixture: Tensor) -> Tensor:
    """How far below the mixture an estimate lies: what to ask for where the sound is absent.

    Args:
        estimate: (..., T).
        mixture: (..., T), same shape.

    Returns:
        (...) float64 dB, 0 for doing nothing, inf for silence, NaN where the mixture is silent.

    Raises:
        UsageError: the shapes differ, or a sample is NaN or infinite.

    >>> attenuation_db(torch.tensor([0.1, -0.1]), torch.tensor([1.0, -1.0])).round(decimals=3).item()
    20.0
    """
    check_pair(estimate, mixture, other_name="mixture")
    power = _power(mixture.double())
    return _db(power, _power(estimate.double())).masked_fill(power == 0, torch.nan)


def check_pair(
    estimate: Tensor, other: Tensor, name: str = "estimate", other_name: str = "reference"
) -> None:
    """Refuse a pair that no metric can compare: shapes that differ, or samples that are not numbers.

    Args:
        estimate: (..., T).
        other: (..., T), what it is measured against.
        name: what to call the first in a message.
        other_name: what to call the second.

    Raises:
        UsageError: the shapes differ, or a sample of either is NaN or infinite; the message names which.
    """
    if estimate.shape != other.shape:
        raise UsageError(
            f"{name} and {other_name} must have the same shape to be compared, got {tuple(estimate.shape)} "
            f"and {tuple(other.shape)}; expand or cut one of them"
        )
    check_finite(estimate, name)
    check_finite(other, other_name)


def check_finite(samples: Tensor, name: str) -> None:
    """Raise UsageError if a sample of `samples` (..., T) is NaN or infinite; `name` says whose it is."""
    # A sum is ten times cheaper than a look at every sample, and neither of the two can hide in it.
    if samples.sum().isfinite():
        return
    broken = (~samples.isfinite()).nonzero()
    if len(broken):
        raise UsageError(
            f"the {name} should hold finite samples, got {len(broken)} that are NaN or infinite, the first "
            f"at index {tuple(broken[0].tolist())}; find what made them, or leave the signal out and count it"
        )


def _power(samples: Tensor) -> Tensor:
    power: Tensor = torch.linalg.vecdot(samples, samples)
    return power


def _db(power: Tensor, other: Tensor) -> Tensor:
    return 10 * (power / other).log10()


def _centred(samples: Tensor) -> Tensor:
    """(..., T) without its mean, in float64; a constant becomes exactly 0."""
    # Memory is asked for once: it costs more time than the arithmetic.
    centred = samples.to(torch.float64, copy=True)
    nothing = _NOTHING * _power(centred)
    centred -= centred.mean(-1, keepdim=True)
    constant = _power(centred) <= nothing
    return centred.masked_fill(constant[..., None], 0) if constant.any() else centred
