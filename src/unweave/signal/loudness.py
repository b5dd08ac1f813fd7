"""Loudness as broadcasters measure it: ITU-R BS.1770-4, integrated, gated, in LUFS."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unweave.errors import UsageError

Samples = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

# Tables 1 and 2: numerator and denominator in 1/z of the head's shelf and of the high-pass, at 48 kHz.
_TABLES = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
_TABLES_HZ = 48_000

_STEP = 0.1  # seconds between gating blocks
_STEPS = 4  # steps in a block: 400 ms, 75 % overlap
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU below the loudness of what passes the absolute gate
_OFFSET = -0.691  # dB; a 997 Hz sine of full scale in one channel is -3.01 LUFS
_SURROUND = 1.41  # weight of channels beside and behind the listener, about +1.5 dB

# Weights for the channel orders of WAVE files, by number of channels; the bass channel does not count.
_WEIGHTS = {
    1: (1.0,),
    2: (1.0, 1.0),
    3: (1.0, 1.0, 1.0),  # left, right, centre
    4: (1.0, 1.0, _SURROUND, _SURROUND),  # left, right, and two behind
    5: (1.0, 1.0, 1.0, _SURROUND, _SURROUND),
    6: (1.0, 1.0, 1.0, 0.0, _SURROUND, _SURROUND),  # 5.1
    8: (1.0, 1.0, 1.0, 0.0, 1.0, 1.0, _SURROUND, _SURROUND),  # 7.1: rear at 135 degrees counts 1, sides 1.41
}

_SETTLED = 0.25  # seconds after which the slower filter has forgotten its past to float64 rounding
_SEGMENT = 2**17  # samples filtered at once: bounds memory, and the FFT is quick at this size


def integrated_loudness(samples: Tensor, sample_rate: int) -> float:
    """Gated loudness of a whole programme.

    Args:
        samples: (C, T), full scale = 1.0, channels in the order of WAVE files.
        sample_rate: Hz.

    Returns:
        LUFS; -inf where nothing is louder than -70 LUFS. Less than the 0.4 s of one gating block, for which
        the recommendation has no answer, is measured as one block of its own length.

    Raises:
        UsageError: a number of channels without a known layout.

    >>> import torch
    >>> sine = (2 * torch.pi * 997 * torch.arange(48_000, dtype=torch.float64) / 48_000).sin()
    >>> round(integrated_loudness(sine[None], 48_000), 2)
    -3.01
    """
    if len(samples) not in _WEIGHTS:
        raise UsageError(
            f"loudness is defined for {', '.join(map(str, _WEIGHTS))} channels, got {tuple(samples.shape)}; "
            f"mix down to stereo first"
        )
    power = _block_power(samples, sample_rate)
    power = power[_lufs(power) > _ABSOLUTE_GATE]
    if power.size:
        power = power[_lufs(power) > _lufs(power.mean()) + _RELATIVE_GATE]
    return float(_lufs(power.mean())) if power.size else -math.inf


def k_weighting(frequency: Samples) -> Spectrum:
    """Complex gain of both filters at frequencies (...) in Hz; flat above 24 kHz.

    The recommendation gives coefficients for 48 kHz and asks that other rates have the same response. So
    every rate reads that response, where coefficients derived for it would be off by up to 0.04 dB.

    >>> decibels = 20 * np.log10(abs(k_weighting(np.array([20.0, 997.0, 10_000.0]))))
    >>> decibels.round(2).tolist()
    [-13.28, 0.69, 4.04]
    """
    delay = np.exp(-2j * np.pi * np.minimum(frequency, _TABLES_HZ / 2) / _TABLES_HZ)  # 1/z
    gain = np.ones_like(delay)
    for top, bottom in _TABLES:
        gain *= np.polyval(top[::-1], delay) / np.polyval(bottom[::-1], delay)
    return gain


def _block_power(samples: Tensor, sample_rate: int) -> Samples:
    """(C, T) -> weighted power of every gating block; the last one that is not full is left out."""
    length = samples.shape[1]
    if not length:
        return np.zeros(0)
    steps = max(1, int(length / (_STEP * sample_rate) + 1e-9))
    edges = np.round(np.arange(steps + 1) * _STEP * sample_rate).astype(np.int64).clip(max=length)
    if steps < _STEPS:
        edges = np.array([0, length])
    energy = np.zeros(len(edges) - 1)
    for channel, weight in zip(samples, _WEIGHTS[len(samples)], strict=True):
        if weight:
            energy += weight * _weighted_energy(channel, edges, sample_rate)
    if steps < _STEPS:
        return energy / length
    blocks: Samples = np.lib.stride_tricks.sliding_window_view(energy, _STEPS).sum(-1)
    blocks /= edges[_STEPS:] - edges[:-_STEPS]
    return blocks


def _weighted_energy(channel: Tensor, edges: NDArray[np.int64], sample_rate: int) -> Samples:
    """(T,) -> energy of the K-weighted signal between neighbouring `edges`.

    A recursive filter in Python is slow, so its response is multiplied on in the frequency domain. What an
    FFT wraps around is sound from before each segment, long enough to be forgotten.
    """
    before = math.ceil(_SETTLED * sample_rate)
    size = max(_SEGMENT, 2 ** math.ceil(math.log2(4 * before)))
    response = k_weighting(np.linspace(0, sample_rate / 2, size // 2 + 1, dtype=np.float64))
    energy = np.zeros(edges[-1])
    for start in range(0, edges[-1], size - before):
        first, until = max(0, start - before), min(edges[-1], start + size - before)
        piece = channel[first:until].detach().cpu().double().numpy()
        padded = np.zeros(size)
        padded[size - len(piece) :] = piece  # zeros or forgotten sound come first
        filtered = np.fft.irfft(np.fft.rfft(padded) * response, size)
        energy[start:until] = np.square(filtered[size - (until - start) :])
    sums: Samples = np.add.reduceat(energy, edges[:-1])
    return sums


def _lufs(power: Samples) -> Samples:
    with np.errstate(divide="ignore"):  # the logarithm of silence is meant to be -inf
        loudness: Samples = _OFFSET + 10 * np.log10(power)
    return loudness
