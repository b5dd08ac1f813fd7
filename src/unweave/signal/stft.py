"""The short-time Fourier transform and its exact inverse, for every length including none."""

import functools

import torch
from torch import Tensor

FFT_SIZE = 2048  # samples; 64 ms at 32 kHz
HOP = 512  # samples; a quarter of the window


def stft(samples: Tensor, fft_size: int = FFT_SIZE, hop: int = HOP) -> Tensor:
    """Hann-windowed spectrum; frame n is centred on sample ``n * hop``.

    The edges are padded with zeros, always. Reflection is impossible below half a window of sound, and a
    pad that depends on the length would give the same sound two spectra; zeros also invent nothing.

    Args:
        samples: (..., T) real, any T from 0 on.
        fft_size: samples in a window, even.
        hop: samples between frames, at most a third of `fft_size`, or the last samples have no window.

    Returns:
        (..., F, N) complex, F = fft_size // 2 + 1 and N = 1 + T // hop.

    >>> stft(torch.zeros(2, 1023)).shape
    torch.Size([2, 1025, 2])
    """
    half = fft_size // 2
    frames = torch.nn.functional.pad(samples, (half, half)).unfold(-1, fft_size, hop)  # (..., N, fft_size)
    if frames.numel() == 0:  # no signals at all, which an FFT refuses
        return frames.new_zeros(*frames.shape[:-1], half + 1, dtype=samples.dtype.to_complex()).mT
    spectrum: Tensor = torch.fft.rfft(frames * _window(fft_size, samples.device, samples.dtype))
    return spectrum.mT


def istft(spectrum: Tensor, length: int, fft_size: int = FFT_SIZE, hop: int = HOP) -> Tensor:
    """Undo `stft`; of an altered spectrum, the signal whose spectrum is nearest in the least-squares sense.

    Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, equation 6.

    Args:
        spectrum: (..., F, N) complex, as from `stft` with the same `fft_size` and `hop`.
        length: samples of the signal that was transformed.

    Returns:
        (..., length) real; within 1e-6 of what went in when the spectrum was left alone.
    """
    if spectrum.numel() == 0:
        return spectrum.real.new_zeros(*spectrum.shape[:-2], length)
    window = _window(fft_size, spectrum.device, spectrum.real.dtype)
    frames = torch.fft.irfft(spectrum.mT, n=fft_size) * window  # (..., N, fft_size)
    shares = window.square().expand(frames.shape[-2], fft_size)
    here = slice(fft_size // 2, fft_size // 2 + length)
    # Every sample lies within a hop of a frame's centre, so its share is never near 0.
    return _overlap_add(frames, hop)[..., here] / _overlap_add(shares, hop)[here]


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(..., N, size) windows, `hop` apart -> (..., time) their sum."""
    *batch, count, size = frames.shape
    pieces = -(-size // hop)
    if size % hop:
        frames = torch.nn.functional.pad(frames, (0, pieces * hop - size))
    total = frames.new_zeros(*batch, count + pieces - 1, hop)
    # A few wide additions instead of one for each frame: every k-th piece lands k hops later.
    for k in range(pieces):
        total[..., k : k + count, :] += frames[..., k * hop : (k + 1) * hop]
    return total.flatten(-2)


@functools.cache
def _window(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # A window first made under inference mode would otherwise break every later backward pass.
    with torch.inference_mode(False):
        return torch.hann_window(size, device=device, dtype=dtype)
