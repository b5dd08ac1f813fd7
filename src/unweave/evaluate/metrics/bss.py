"""BSS Eval: signal-to-distortion, -interference and -artifacts ratios that forgive a short filter.

Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4),
2006, in the form of ``bss_eval_sources`` of BSS Eval 3 and mir_eval, without its search for a permutation:
estimate q answers query q. Scheibler, "SDR - medium rare with fast computations", ICASSP 2022, is where the
ratios are read off two angles, so that no projection is ever formed.

The package of that paper is not called at run time: it solves all sources in one batch, and with torch from
2.5 to 2.13 a batched ``torch.linalg.solve`` fails or answers wrongly once ``torch.set_num_threads`` was
called with 2 or more (pytorch/pytorch issue 142815). Every system here is solved on its own.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import check_pair

TAPS = 512  # length of the filter that may change a source without being counted as distortion

_LOADING = 1e-14  # of the power of a source, first added where references are one another's filtered copy


class BssEval(NamedTuple):
    """Three ratios in dB for each of Q estimates, (Q,) float64 each, higher is better."""

    sdr: Tensor  # the filtered target against all the rest
    sir: Tensor  # the filtered target against what the other references explain
    sar: Tensor  # what any reference explains against what none does


def bss_eval(estimates: Tensor, references: Tensor) -> BssEval:
    """SDR, SIR and SAR of every estimate, each source being free to pass a filter of 512 taps.

    A gain, a delay of up to 511 samples or an equaliser costs nothing here, so the numbers lie above `sdr`
    and `si_sdr` and cannot be compared with them. Means are not removed. References that share a band with
    nothing in it make SIR and SAR ill-posed: there, implementations differ by up to 2 dB.

    Args:
        estimates: (Q, T), estimate q of reference q.
        references: (Q, T), all sources of the mixture: SIR and SAR depend on the whole set.

    Returns:
        (Q,) float64 dB each; above 120 they are rounding. A silent reference is left out of the set: its own
        entries are NaN, and the others are measured as if it were not there. For a silent estimate SDR is
        -inf, and SIR and SAR are NaN. Where only one reference sounds, its SIR is inf: there is nothing to
        interfere.

    Raises:
        UsageError: not two (Q, T) of the same shape, or a sample is NaN or infinite.

    >>> hum, hiss = torch.arange(4000).mul(0.05).sin(), torch.rand(4000, generator=torch.Generator()) - 0.5
    >>> mixed = torch.stack([hum + 0.1 * hiss, hiss])
    >>> bss_eval(mixed, torch.stack([hum, torch.zeros(4000)])).sdr.round().tolist()
    [28.0, nan]
    """
    check_pair(estimates, references, "estimates", "references")
    if estimates.ndim != 2:
        raise UsageError(
            f"bss_eval wants (queries, time), all sources of one mixture, got {tuple(estimates.shape)}; "
            f"call it once for each mixture and channel"
        )
    estimates, references = _unit_power(estimates), _unit_power(references)
    sounding = (references != 0).any(-1)
    answered = (estimates[sounding] != 0).any(-1)
    own, every = _explained(estimates[sounding], references[sounding])
    ratios = torch.full((3, len(estimates)), torch.nan, dtype=torch.float64, device=estimates.device)
    ratios[0, sounding] = _db(own, 1 - own).masked_fill(~answered, -torch.inf)
    ratios[1, sounding] = _db(own, every - own).masked_fill(~answered, torch.nan)
    ratios[2, sounding] = _db(every, 1 - every).masked_fill(~answered, torch.nan)
    return BssEval(*ratios)


def _explained(estimates: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each estimate's power that its own reference explains, and the share that all do.

    Args:
        estimates: (Q, T), power 1 each, or silent.
        references: (Q, T), power 1 each.

    Returns:
        (Q,) and (Q,), in 0..1, the first at most the second.
    """
    count, length = references.shape
    if count == 0:
        return estimates.new_zeros(0), estimates.new_zeros(0)
    # Long enough that no lag below TAPS wraps around, of small factors for speed.
    size = min(m * 2 ** math.ceil(math.log2((length + TAPS) / m)) for m in (2, 3, 5))
    spectra, others = torch.fft.rfft(references, size), torch.fft.rfft(estimates, size)
    lags = estimates.new_empty(count, count, 2 * TAPS - 1)  # correlation of references, lag 0 in the middle
    cross = estimates.new_empty(count, TAPS, count)  # reference i, delayed by each tap, with estimate q
    for i in range(count):
        for j in range(i, count):
            both = torch.fft.irfft(spectra[i].conj() * spectra[j], size)
            lags[i, j] = torch.cat([both[1 - TAPS :], both[:TAPS]])
            lags[j, i] = lags[i, j].flip(-1)
        for q in range(count):
            cross[i, :, q] = torch.fft.irfft(spectra[i].conj() * others[q], size)[:TAPS]
    singles = [slice(q, q + 1) for q in range(count)]
    own = torch.cat([_power(lags[one, one], cross[one, :, one]) for one in singles])
    every = own if count == 1 else _power(lags, cross)
    # Rounding may leave a share a hair out of its bounds: 0 <= own <= every <= 1.
    every = every.clamp(max=1)
    return torch.minimum(own, every), every


def _power(lags: Tensor, cross: Tensor) -> Tensor:
    """Power of the projections on all delays of some references.

    Args:
        lags: (R, R, 2 * TAPS - 1) correlations of the references, lag 0 in the middle.
        cross: (R, TAPS, Q) correlations of each delayed reference with each signal.

    Returns:
        (Q,).
    """
    size = lags.shape[0] * TAPS
    # Entry (i, a; j, b) is the correlation of references i and j at lag a - b: a Toeplitz block each.
    blocks = lags.unfold(-1, TAPS, 1).flip(-1)  # (R, R, TAPS, TAPS)
    gram = blocks.transpose(1, 2).reshape(size, size)
    lower, failed = torch.linalg.cholesky_ex(gram)
    loading = _LOADING
    while failed:  # the same sound twice, or a band with nothing in it: singular but for rounding
        gram.diagonal().add_(loading)
        lower, failed = torch.linalg.cholesky_ex(gram)
        loading *= 10
    whitened: Tensor = torch.linalg.solve_triangular(lower, cross.reshape(size, -1), upper=False)
    return whitened.square().sum(0)


def _unit_power(samples: Tensor) -> Tensor:
    """(Q, T) in float64 with power 1 each, as no ratio here depends on a gain; silence stays silence."""
    samples = samples.double()
    peak = samples.abs().amax(-1, keepdim=True) if samples.shape[-1] else samples.new_ones(len(samples), 1)
    samples = samples / peak.masked_fill(peak == 0, 1)  # first the peak: squares of 1e-200 would vanish
    norm: Tensor = torch.linalg.vector_norm(samples, dim=-1, keepdim=True)
    return samples.div_(norm.masked_fill(norm == 0, 1))


def _db(wanted: Tensor, unwanted: Tensor) -> Tensor:
    return 10 * (wanted / unwanted).log10()
