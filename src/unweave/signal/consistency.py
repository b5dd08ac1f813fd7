"""Estimates of any engine, made into stems of the recording itself.

An engine answers at its own rate, with its own channels, sometimes with a phase it made up. Here its
answers become soft masks on the recording: the stems keep the recording's rate, length, channels and
stereo image, and together with the residual they sum to it to float rounding.
"""

import math

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.signal.masks import share
from unweave.signal.stft import istft, stft

_HOP = 0.016  # seconds between frames: 512 samples at 32 kHz; the window is four hops
_COMMON_RATE = 32_000  # Hz; where it can, the grid of every rate has its frames where this rate has some
_COARSEST = 0.022  # seconds; a common grid with longer hops would smear attacks
_BAND = 0.95  # share of an engine's band that lies below the slope of the resampler in front of it
_NEAR = 0.8  # of the band's edge, a third of an octave below it: where the mask above the band comes from
_STEP = 1.5  # of the correction in `_heard_mask`; 1.25 loses nearly twice as much, 2 overshoots
_SLACK = 0.1  # seconds by which the engine's copy may be shorter or longer than the recording
_TINY = 1e-12  # magnitudes below this are silence


def masks_on(
    mixture: Tensor, heard: Tensor, estimates: Tensor, *, mixture_rate: int, heard_rate: int
) -> Tensor:
    """Soft masks for the recording from what an engine answered on its copy of it.

    Magnitudes are compared, so the phase may be invented. All channels share one mask, so the stereo image
    stays. Above the engine's band every frame goes on with the mean mask of the third of an octave below,
    weighted by energy: what is up there is mostly overtones and attacks of what is just underneath.

    Args:
        mixture: (C, T) the recording at `mixture_rate`.
        heard: (C2, T2) the same recording as the engine got it, at `heard_rate`.
        estimates: (Q, C2, T2) the engine's answers.
        mixture_rate: Hz.
        heard_rate: Hz, lower or higher.

    Returns:
        (Q, F, N) masks in [0, 1] on the `grid` of `mixture_rate`, for `apply`.

    Raises:
        UsageError: the three cannot belong to one recording.
    """
    _check(mixture, heard, estimates, mixture_rate, heard_rate)
    fft_size, hop = grid(mixture_rate)
    bins, frames = fft_size // 2 + 1, 1 + mixture.shape[-1] // hop
    heard_fft, heard_hop = _heard_grid(hop, mixture_rate, heard_rate)
    bin_step = mixture_rate / fft_size / (heard_rate / heard_fft)
    frame_step = hop / mixture_rate / (heard_hop / heard_rate)
    spectrum = stft(heard, heard_fft, heard_hop)
    magnitude = _magnitude(spectrum).clamp(min=_TINY)
    masks = magnitude.new_empty(len(estimates), bins, frames)
    for into, estimate in zip(masks, estimates, strict=True):  # the spectra of one query at a time
        mask = _heard_mask(estimate, spectrum, magnitude, heard_fft, heard_hop)
        if mixture_rate > heard_rate:
            mask = _continue_upwards(mask, magnitude, bins=2 + int((bins - 1) * bin_step))
        into.copy_(_resampled(_resampled(mask, frame_step, frames, dim=1), bin_step, bins, dim=0))
    return masks


def apply(mixture: Tensor, masks: Tensor, *, mixture_rate: int) -> Tensor:
    """Put masks on every channel of the recording.

    Args:
        mixture: (C, T) the recording at `mixture_rate`.
        masks: (Q, F, N) from `masks_on`.
        mixture_rate: Hz.

    Returns:
        (Q, C, T) stems.

    Raises:
        UsageError: the masks were made for another length or rate.
    """
    fft_size, hop = grid(mixture_rate)
    spectrum = stft(mixture, fft_size, hop)
    if masks.shape[1:] != spectrum.shape[1:]:
        raise UsageError(
            f"masks of (bins, frames) {tuple(masks.shape[1:])} do not fit this recording, whose spectrum has "
            f"{tuple(spectrum.shape[1:])}; make them with masks_on for the same recording and rate"
        )
    stems = mixture.new_empty(len(masks), *mixture.shape)
    for into, mask in zip(stems, masks, strict=True):
        into.copy_(istft(spectrum * mask, mixture.shape[-1], fft_size, hop))
    return stems


def native_stems(
    mixture: Tensor, heard: Tensor, estimates: Tensor, keep: Tensor, *, mixture_rate: int, heard_rate: int
) -> Tensor:
    """Stems of the recording from an engine's answers: `masks_on`, `share`, `apply`.

    Args:
        mixture: (C, T) the recording at `mixture_rate`.
        heard: (C2, T2) the same recording as the engine got it, at `heard_rate`.
        estimates: (Q, C2, T2) the engine's answers.
        keep: (Q,) bool, False where a query asks for everything but its sound. Such a stem overlaps the
            others by intent and takes no part in sharing.
        mixture_rate: Hz.
        heard_rate: Hz.

    Returns:
        (Q, C, T) stems; those kept sum to no more than the recording in any bin.

    Raises:
        UsageError: the shapes cannot belong to one recording.
    """
    masks = masks_on(mixture, heard, estimates, mixture_rate=mixture_rate, heard_rate=heard_rate)
    return apply(mixture, share(masks, keep), mixture_rate=mixture_rate)


def residual(mixture: Tensor, stems: Tensor) -> Tensor:
    """What no stem took: (C, T), (Q, C, T) -> (C, T), so that stems and residual sum to the mixture.

    Summed in float64 and rounded once, or the error would grow with the number of stems.
    """
    return (mixture.double() - stems.sum(0, dtype=torch.float64)).to(mixture.dtype)


def sum_error_db(mixture: Tensor, stems: Tensor, residual: Tensor) -> float:
    """Largest sample of mixture (C, T) minus stems (Q, C, T) and residual (C, T), in dBFS; -inf if none."""
    left = mixture.double() - stems.sum(0, dtype=torch.float64) - residual.double()
    peak = left.abs().max().item() if left.numel() else 0.0
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def grid(sample_rate: int) -> tuple[int, int]:
    """Window and hop, in samples, of the masks for a recording at `sample_rate` Hz.

    About 64 ms and 16 ms. Where a hop between 8 and 22 ms is a whole number of samples both here and at
    32 kHz, it is taken: masks then pass between the two rates bin by bin, and no interpolation blurs them.

    >>> grid(32_000), grid(48_000), grid(44_100)
    ((2048, 512), (3072, 768), (3528, 882))
    """
    unit = sample_rate // math.gcd(sample_rate, _COMMON_RATE)
    if unit > _COARSEST * sample_rate:
        unit = 1
    hop = max(1, round(_HOP * sample_rate / unit)) * unit
    return 4 * hop, hop


def _heard_grid(hop: int, mixture_rate: int, heard_rate: int) -> tuple[int, int]:
    """Window and hop at `heard_rate` whose frames and bins are those of `hop` at `mixture_rate`."""
    if hop * heard_rate % mixture_rate == 0:
        same = hop * heard_rate // mixture_rate
        return 4 * same, same
    # No whole number of samples is as long: interpolate, from twice as many frames so as to blur less.
    half = max(1, round(hop * heard_rate / mixture_rate / 2))
    return 8 * half, half


def _heard_mask(estimate: Tensor, spectrum: Tensor, magnitude: Tensor, fft_size: int, hop: int) -> Tensor:
    """(C2, T2) one answer, spectrum (C2, F, N) and magnitude (F, N) of what was heard -> (F, N) mask.

    The ratio of magnitudes alone is a blurred mask: the windows spread every bin over its neighbours, once
    on the way to the answer and once more on the way back. So it is tried out, and what the trial misses is
    added. An answer with a phase of its own differs for another reason, hence the weight `agreement`.
    """
    wanted = _magnitude(stft(estimate, fft_size, hop))
    mask = (wanted / magnitude).clamp_(max=1)
    trial = istft(spectrum * mask, estimate.shape[-1], fft_size, hop)
    agreement = torch.nn.functional.cosine_similarity(trial.flatten(), estimate.flatten(), dim=0).clamp(min=0)
    missed = (wanted - _magnitude(stft(trial, fft_size, hop))) / magnitude
    return mask.add_(missed * (_STEP * agreement)).clamp_(0, 1)


def _magnitude(spectrum: Tensor) -> Tensor:
    """(C, F, N) complex -> (F, N), root of the energy of all channels."""
    # A third of the time of abs(), and no copy of the spectrum; squares underflow below 1e-19 only.
    energy = torch.zeros_like(spectrum[0].real)
    for channel in spectrum:
        energy.addcmul_(channel.real, channel.real).addcmul_(channel.imag, channel.imag)
    return energy.sqrt_()


def _continue_upwards(mask: Tensor, magnitude: Tensor, bins: int) -> Tensor:
    """(F, N) mask and magnitude of what was heard -> (bins, N) mask that goes on above the engine's band."""
    edge = int(_BAND * (len(mask) - 1))
    near = slice(int(_NEAR * edge), edge)
    energy = magnitude[near].square()
    top = (mask[near] * energy).sum(0) / energy.sum(0)
    return torch.cat([mask[:edge], top.expand(bins - edge, -1)])


def _resampled(mask: Tensor, step: float, count: int, dim: int) -> Tensor:
    """Read `mask` at 0, step, 2 step... along `dim`, `count` times; its last value holds beyond its end."""
    last = mask.shape[dim] - 1
    if step == 1 and count <= last + 1:
        return mask.narrow(dim, 0, count)
    position = (torch.arange(count, device=mask.device) * step).clamp(max=last)
    below = position.long()
    weight = (position - below).unsqueeze(1 - dim)
    above = (below + 1).clamp(max=last)
    return torch.lerp(mask.index_select(dim, below), mask.index_select(dim, above), weight.to(mask.dtype))


def _check(mixture: Tensor, heard: Tensor, estimates: Tensor, mixture_rate: int, heard_rate: int) -> None:
    if estimates.ndim != 3 or estimates.shape[1:] != heard.shape:
        raise UsageError(
            f"estimates are (queries, channels, time) of what was heard, {tuple(heard.shape)}; "
            f"got {tuple(estimates.shape)}"
        )
    seconds, heard_seconds = mixture.shape[-1] / mixture_rate, heard.shape[-1] / heard_rate
    if mixture.ndim != 2 or abs(seconds - heard_seconds) > _SLACK:
        raise UsageError(
            f"a recording {tuple(mixture.shape)} at {mixture_rate} Hz is {seconds:.2f} s, what was heard "
            f"{tuple(heard.shape)} at {heard_rate} Hz is {heard_seconds:.2f} s; hand in the same (channels, "
            f"time) recording twice, resampled without cutting it"
        )
