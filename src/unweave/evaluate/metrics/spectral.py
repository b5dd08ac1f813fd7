"""Distances between spectra: one number for each signal, lower is better, `mel_psnr` alone higher.

None of them sees phase, so that estimates whose phase is invented are not punished for it; and each looks at
levels in decibels, so that a quiet error between the sounds counts. Logarithms need a floor: every function
names its own, and all of them are stated for samples at full scale 1.0.

One rule each for what is degenerate, for all functions here: the value is NaN where the reference is silent;
a silent estimate is measured like any other, its spectrum lying at the floor; `signal.check_pair` refuses the
rest.

Spectra are formed in float32 unless the signals are float64, as rounding then lies below the floors, and some
frames at a time, so that ten minutes need little more memory than ten seconds. `audioldm_lsd` has next to no
floor and is in float64 throughout.
"""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unweave.audio.resample import resample
from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import check_pair

_BLOCK = 1 << 17  # values of a spectrum worked on at once: few enough to stay in the cache

_MULTI_RESOLUTION = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))  # FFT, hop, window, in samples
_UNISEP = ((2048, 512, 2048), (512, 128, 512))
_MEL_PSNR_RATE = 16_000  # Hz
_MEL_PSNR_LOWEST = 50.0  # Hz
_MEL_PSNR_BANDS = 64
_MEL_DISTANCE_BANDS = 80


def multi_resolution_stft(estimate: Tensor, reference: Tensor) -> Tensor:
    """Multi-resolution STFT distance: spectral convergence plus the L1 of natural-log magnitudes.

    Yamamoto, Song and Kim, "Parallel WaveGAN", ICASSP 2020, with their three resolutions: FFT 512, 1024 and
    2048 with hops of 50, 120 and 240 and Hann windows of 240, 600 and 1200 samples, whatever the rate. With E
    and R the magnitudes, the mean over the resolutions of ``norm(R - E) / norm(R) + mean(abs(ln R - ln E))``.
    Edges are reflected; magnitudes below 1e-4 count as 1e-4.

    Args:
        estimate: (..., T), T above 1024.
        reference: (..., T), same shape.

    Returns:
        (...) float64, no unit: 0 for a perfect estimate, NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, T is too short, or a sample is NaN or infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> multi_resolution_stft(noise / 2, noise).round(decimals=3).item()  # 1 / 2 + ln 2
    1.193
    """

    def distance(pair: Tensor) -> float:
        total = 0.0
        for fft, hop, window in _MULTI_RESOLUTION:
            error = power = apart = count = 0.0
            for powers in _spectra(pair, fft, hop, window):
                powers.clamp_(min=1e-8)
                apart += (powers[0] / powers[1]).log_().abs_().sum().item() / 2
                power += powers[1].sum().item()
                error += torch.dist(*powers.sqrt_()).item() ** 2
                count += powers[0].numel()
            total += math.sqrt(error / power) + apart / count
        return total / len(_MULTI_RESOLUTION)

    return _each(distance, estimate, reference, shortest=1025)


def unisep_stft_distance(estimate: Tensor, reference: Tensor) -> Tensor:
    """The "STFT distance" of UniSep: the L1 of log magnitudes, summed over two resolutions.

    Wang et al., "UniSep", 2025 (arXiv 2503.23762), call it the loss between the log magnitude spectrograms
    and cite Kumar et al., "High-fidelity audio compression with improved RVQGAN", NeurIPS 2023, which has
    windows of 2048 and 512 samples. The rest is not in UniSep's text and is taken from that codec's public
    loss: hops of a quarter window, Hann windows, reflected edges, log10 of the power, magnitudes below 1e-5
    counting as 1e-5, and the sum over the two. That loss also adds the L1 of plain magnitudes, which neither
    text mentions: left out here.

    UniSep's own numbers have codec reconstructions for references and, it seems, 16 kHz audio. Against true
    references, or at another rate, they are not comparable with these.

    Args:
        estimate: (..., T), T above 1024.
        reference: (..., T), same shape.

    Returns:
        (...) float64, in units of 10 dB: 0 for a perfect estimate, NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, T is too short, or a sample is NaN or infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> unisep_stft_distance(noise / 10, noise).round(decimals=3).item()  # 20 dB at each resolution
    4.0
    """

    def distance(pair: Tensor) -> float:
        total = 0.0
        for fft, hop, window in _UNISEP:
            apart = count = 0.0
            for powers in _spectra(pair, fft, hop, window):
                powers.clamp_(min=1e-10)
                apart += (powers[0] / powers[1]).log10_().abs_().sum().item()
                count += powers[0].numel()
            total += apart / count
        return total

    return _each(distance, estimate, reference, shortest=1025)


def log_spectral_distance(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    """Log-spectral distance (LSD): RMS over frequency of the gap between log powers, mean over frames.

    Gray and Markel, "Distance measures for speech processing", IEEE TASSP 24(5), 1976, in the form that work
    on super-resolution reports (Kuleshov, Enam and Ermon, "Audio super-resolution using neural nets", 2017,
    have the frames of 2048; Liu et al., "Neural vocoder is all you need", 2022, the base of ten): with E and
    R the power spectra, ``mean_frames(sqrt(mean_bins(log10(R / E) ** 2)))``. Hann windows of 2048 samples
    every 512, at the rate given; zeros beyond the edges. Powers below 1e-8 count as 1e-8, a little below the
    rounding noise of 16 bits, so that digital silence and a faint hiss are alike.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.
        sample_rate: Hz. The bins are those of the signals as given, nothing is resampled.

    Returns:
        (...) float64, in units of 10 dB: 0 for a perfect estimate, NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, the rate is below 1000 Hz, or a sample is NaN or infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> log_spectral_distance(noise / 10, noise, 32000).round(decimals=3).item()  # 20 dB everywhere
    2.0
    """
    _check_rate(sample_rate)

    def distance(pair: Tensor) -> float:
        total = frames = 0.0
        for powers in _spectra(pair, 2048, 512, 2048, edges="constant"):
            powers.clamp_(min=1e-8)
            gaps = (powers[1] / powers[0]).log10_()
            total += gaps.square_().mean(-1).sqrt_().sum().item()
            frames += len(gaps)
        return total / frames

    return _each(distance, estimate, reference)


def audioldm_lsd(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    """The "LSD" of audioldm_eval, which papers on generative separation report, without its hidden shift.

    As in the public packages audioldm_eval and ssr_eval (Liu et al., "Neural vocoder is all you need for
    speech super-resolution", Interspeech 2022): mean removed, peak brought to 1, Hann windows of ``int(2048 /
    (44100 / sample_rate))`` samples every ``sample_rate / 100``, zeros beyond the edges; with E and R the
    magnitudes and e = 1e-12, ``mean_frames(sqrt(mean_bins(log10(R ** 2 / (E + e) ** 2 + e) ** 2)))``. The
    original also drops the first 1120 samples of every estimate, to make up for one vocoder's delay; that is
    left out, so its published values are not comparable for estimates that were shifted.

    Two properties of the original are kept. The level of the estimate is ignored. And there is no usable
    floor: a frame in which both are digital silence counts 12, so that a perfect estimate need not score 0.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.
        sample_rate: Hz; published values are at 16000. The signals are measured as given, nothing is
            resampled.

    Returns:
        (...) float64, in units of 10 dB, NaN where the reference is silent; a constant is silent here.

    Raises:
        UsageError: the shapes differ, the rate is below 1000 Hz, or a sample is NaN or infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> round(audioldm_lsd(noise / 10, noise, 16000).item(), 3)  # the level is ignored
    0.0
    """
    _check_rate(sample_rate)
    window, hop = int(2048 / (44100 / sample_rate)), int(sample_rate / 100)

    def distance(pair: Tensor) -> float:
        pair = _peak_one(pair)
        if not pair[1].any():
            return math.nan
        total = frames = 0.0
        for powers in _spectra(pair, window, hop, window, edges="constant"):
            estimated = powers[0].sqrt() + 1e-12
            gaps = (powers[1] / estimated.square_() + 1e-12).log10_()
            total += gaps.square_().mean(-1).sqrt_().sum().item()
            frames += len(gaps)
        return total / frames

    return _each(distance, estimate.double(), reference.double())


def mel_psnr(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    """The "PSNR" of HSM-TSS: peak signal-to-noise ratio of two log-mel images, not of two waveforms.

    Yin et al., "Text-queried audio source separation via hierarchical modeling", 2025, by way of
    audioldm_eval. At 16 kHz, mean removed, clipped to full scale: magnitudes of 512-sample Hann windows every
    160 samples with reflected edges, 64 mel bands (Slaney's scale and areas) from 50 to 8000 Hz. A band of
    magnitude m becomes the pixel ``(20 * log10(m) + 80) / 100``, cut to 0..1, so that the data range is 1:
    100 dB. The value is ``-10 * log10`` of the mean squared difference.

    Args:
        estimate: (..., T), at least 257 samples after resampling.
        reference: (..., T), same shape.
        sample_rate: Hz; other rates than 16000 are resampled.

    Returns:
        (...) float64 dB, higher is better: inf where the images agree, NaN where the reference is silent or
        so quiet (about 80 dB below full scale) that its image is blank.

    Raises:
        UsageError: the shapes differ, the rate is below 1000 Hz, T is too short, or a sample is NaN or
            infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0)) / 10
    >>> mel_psnr(noise / 10, noise, 16000).round(decimals=2).item()  # 20 dB of 100
    13.98
    """
    _check_rate(sample_rate)
    bands = _mel_bands(_MEL_PSNR_RATE, 512, _MEL_PSNR_BANDS, _MEL_PSNR_LOWEST)

    def ratio(pair: Tensor) -> float:
        pair = pair.clamp(-1, 1)
        error = count = brightest = 0.0
        for powers in _spectra(pair, 512, 160, 512):
            levels = 20 * (powers.sqrt_() @ bands.to(powers)).clamp_(min=1e-5).log10_()
            pixels = ((levels + 80) / 100).clamp_(0, 1)
            error += (pixels[0] - pixels[1]).square_().sum().item()
            count += pixels[0].numel()
            brightest = max(brightest, pixels[1].max().item())
        if brightest == 0:
            return math.nan
        return -10 * math.log10(error / count) if error else math.inf

    def at_16_khz(samples: Tensor) -> Tensor:
        return resample(samples - samples.mean(-1, keepdim=True), sample_rate, _MEL_PSNR_RATE)

    check_pair(estimate, reference)
    return _each(ratio, at_16_khz(estimate), at_16_khz(reference), shortest=257)


def mel_distance(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    """Mel distance: the mean absolute difference of two log-mel spectrograms, in dB.

    Of magnitudes, from Hann windows of 2048 samples every 512 with zeros beyond the edges, 80 mel bands
    (Slaney's scale and areas) from 0 Hz to half the rate. Bands below 1e-5 count as 1e-5, about the rounding
    noise of 16 bits. The mean is over all bands and frames; divide by 8.686 for the natural-log unit of
    vocoder papers.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.
        sample_rate: Hz. The bands are those of the signals as given, nothing is resampled.

    Returns:
        (...) float64 dB: 0 for a perfect estimate, NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, the rate is below 1000 Hz, or a sample is NaN or infinite.

    >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> mel_distance(noise / 10, noise, 32000).round(decimals=3).item()
    20.0
    """
    _check_rate(sample_rate)
    bands = _mel_bands(sample_rate, 2048, _MEL_DISTANCE_BANDS, 0.0)

    def distance(pair: Tensor) -> float:
        apart = count = 0.0
        for powers in _spectra(pair, 2048, 512, 2048, edges="constant"):
            mel = (powers.sqrt_() @ bands.to(powers)).clamp_(min=1e-5)
            apart += 20 * (mel[0] / mel[1]).log10_().abs_().sum().item()
            count += mel[0].numel()
        return apart / count

    return _each(distance, estimate, reference)


@torch.no_grad()
def _each(
    distance: Callable[[Tensor], float], estimate: Tensor, reference: Tensor, shortest: int = 0
) -> Tensor:
    """`distance` of every pair, (2, T) estimate and reference; NaN where the reference is silent."""
    check_pair(estimate, reference)
    length = estimate.shape[-1]
    if length < shortest:
        raise UsageError(
            f"this metric looks at {shortest} samples or more, got {length}; pad estimate and reference alike"
        )
    exact = torch.float64 if estimate.dtype == torch.float64 else torch.float32
    pairs = torch.stack([estimate, reference], -2).to(exact).reshape(-1, 2, length)
    values = [distance(pair) if pair[1].any() else math.nan for pair in pairs]
    return torch.tensor(values, dtype=torch.float64, device=estimate.device).reshape(estimate.shape[:-1])


def _spectra(pair: Tensor, fft: int, hop: int, window: int, edges: str = "reflect") -> Iterator[Tensor]:
    """Power spectra of (2, T) signals, some frames at a time: (2, N', F) each, yours to overwrite.

    Frame n is centred on sample ``n * hop``; there are ``1 + T // hop`` for an even `fft`. `edges` is what
    lies beyond the signal: "reflect" or "constant", which is zeros.
    """
    half = fft // 2
    padded = torch.nn.functional.pad(pair, (half, half), mode=edges)
    count = 1 + (padded.shape[-1] - fft) // hop
    # The zeros around a window shorter than the FFT may all stand behind it: that only turns phases.
    frames = padded[:, (fft - window) // 2 :].unfold(-1, window, hop)[:, :count]
    shape = torch.hann_window(window, dtype=pair.dtype, device=pair.device)
    step = max(1, _BLOCK // fft)
    for first in range(0, count, step):
        spectrum = torch.fft.rfft(frames[:, first : first + step] * shape, fft)
        powers = spectrum.real.square()
        yield powers.addcmul_(spectrum.imag, spectrum.imag)


def _peak_one(samples: Tensor) -> Tensor:
    """(..., T) without its mean, peak 1; what is constant becomes 0, and stays so."""
    centred = samples - samples.mean(-1, keepdim=True)
    peak = centred.abs().amax(-1, keepdim=True)
    constant = peak <= 1e-12 * samples.abs().amax(-1, keepdim=True)
    return torch.where(constant, 0, centred / peak)


@functools.cache
def _mel_filters(sample_rate: int, fft: int, bands: int, lowest_hz: float) -> npt.NDArray[np.float64]:
    """(F, D) triangles from `lowest_hz` to half the rate on Slaney's mel scale, of equal area."""
    from transformers.audio_utils import mel_filter_bank  # half a second to import

    return mel_filter_bank(
        fft // 2 + 1, bands, lowest_hz, sample_rate / 2, sample_rate, norm="slaney", mel_scale="slaney"
    )


def _mel_bands(sample_rate: int, fft: int, bands: int, lowest_hz: float) -> Tensor:
    return torch.from_numpy(_mel_filters(sample_rate, fft, bands, lowest_hz))


def _check_rate(sample_rate: int) -> None:
    if sample_rate < 1000:
        raise UsageError(f"sample_rate is in Hz, at least 1000, got {sample_rate}; 32 kHz is 32000")
