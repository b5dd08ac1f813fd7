"""The metrics of every run, of all answers about one mixture at once.

Energies and errors of all pairs are dot products, so one matrix of them holds every SDR and SI-SDR that a
mixture has: the samples are read once, instead of once for each metric and pair.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics import signal

WORST_DB = -20.0  # SI-SDR improvement of one answer counts no less: silence would count -infinity
QUIETEST_DB = 100.0  # attenuation counts no more: silence would count infinity
EXACT_DB = -120.0  # sum error counts no less: exactly zero would count -infinity

_BLOCK = 1 << 15  # samples in float64 at a time; what one core's cache holds
_CANCELS = 1e-7  # an error below this share of the signals has lost digits as a difference of dot products


@dataclass(frozen=True, eq=False)
class Products:
    """Dot products of estimates, sources, mixture and rest, in this order; N = 2 Q + 2 signals."""

    signals: tuple[Tensor, Tensor, Tensor, Tensor]  # (Q, C, T), (Q, C, T), (1, C, T), (1, C, T)
    plain: Tensor  # (C, N, N) float64
    centred: Tensor  # (C, N, N) the same without the means


def products(estimates: Tensor, sources: Tensor, mixture: Tensor, rest: Tensor | None = None) -> Products:
    """All dot products of (Q, C, T) estimates, (Q, C, T) sources, the (C, T) mixture and the (C, T) rest.

    Raises:
        UsageError: the shapes do not fit together, or an estimate holds NaN or infinity.
    """
    if estimates.shape != sources.shape or sources.shape[1:] != mixture.shape:
        raise UsageError(
            f"estimates {tuple(estimates.shape)}, sources {tuple(sources.shape)} and mixture "
            f"{tuple(mixture.shape)} do not fit; wanted are (Q, C, T), (Q, C, T) and (C, T)"
        )
    signals = (estimates, sources, mixture[None], (torch.zeros_like(mixture) if rest is None else rest)[None])
    length = mixture.shape[-1]
    count = 2 * len(estimates) + 2
    plain = torch.zeros(len(mixture), count, count, dtype=torch.float64)
    sums = torch.zeros(len(mixture), count, dtype=torch.float64)
    for start in range(0, length, _BLOCK):
        block = torch.cat([part[..., start : start + _BLOCK] for part in signals]).double()  # (N, C, t)
        block = block.transpose(0, 1)
        plain += block @ block.mT
        sums += block.sum(-1)
    if not plain.isfinite().all():
        broken = [name for name, part in zip(_NAMES, signals, strict=True) if not part.isfinite().all()]
        raise UsageError(f"the {' and '.join(broken)} hold NaN or infinite samples; nothing can be measured")
    means = sums / max(1, length)
    return Products(signals, plain, plain - sums[:, :, None] * means[:, None, :])


_NAMES = ("estimates", "sources", "mixture", "rest")


def headline(
    estimates: Tensor, sources: Tensor, mixture: Tensor, rivals: Tensor, rest: Tensor | None = None
) -> dict[str, Tensor]:
    """What every run measures; values of several channels are averaged.

    Args:
        estimates: (Q, C, T), the answers.
        sources: (Q, C, T), what was asked for; silence where it is not in the mixture.
        mixture: (C, T).
        rivals: (Q, Q) bool, whether source r is another sound than the one query q asks for.
        rest: (C, T), the sources that no query asks for, together; a rival of all that are asked for.

    Returns:
        By name (Q,) float64: "si_sdr", "si_sdri" (`WORST_DB` at least), "sdr", "sdri" and "snr_db" of the
        source against all else in the mixture, all NaN where the source is silent; "wrong_target", 1 where an
        answer is nearer to a rival in SI-SDR, else 0, NaN for silence and without a rival; "attenuation_db"
        below the mixture (`QUIETEST_DB` at most); and (1,) "sum_error_db", the energy of mixture minus all
        estimates over that of the mixture (`EXACT_DB` at least).
    """
    dots = products(estimates, sources, mixture, rest)
    count = len(estimates)
    answers, asked, whole = range(count), range(count, 2 * count), 2 * count
    nearness = _table(dots, [*answers, whole], [*asked, whole + 1], scale_free=True)  # (C, Q + 1, Q + 1)
    si_sdr = nearness[..., :count]
    sdr = _table(dots, [*answers, whole], [*asked], scale_free=False)
    own = torch.arange(count)

    mine, near = si_sdr[:, own, own], nearness[:, :count].mean(0)  # (Q, Q + 1)
    others = torch.cat([rivals, ~near[:, -1:].isnan()], 1)  # NaN, of silence, is nearer to nothing
    closer = (near > near.diagonal()[:, None]) & others
    wrong = closer.any(1).double().masked_fill(near.diagonal().isnan() | ~others.any(1), torch.nan)
    return {
        "si_sdr": mine.mean(0),
        "si_sdri": (mine - si_sdr[:, -1]).mean(0).clamp(min=WORST_DB),
        "sdr": sdr[:, own, own].mean(0),
        "sdri": (sdr[:, own, own] - sdr[:, -1]).mean(0),
        "wrong_target": wrong,
        "snr_db": sdr[:, -1].mean(0),
        "attenuation_db": _attenuation(dots, count).mean(0).clamp(max=QUIETEST_DB),
        "sum_error_db": _sum_error(dots, count).mean(0, keepdim=True).clamp(min=EXACT_DB),
    }


def _table(dots: Products, rows: list[int], columns: list[int], *, scale_free: bool) -> Tensor:
    """(C, rows, columns) dB of every signal of `rows` against every one of `columns`."""
    matrix = dots.centred if scale_free else dots.plain
    power = matrix.diagonal(dim1=1, dim2=2)
    ours, theirs = power[:, rows, None], power[:, None, columns]
    cross = matrix[:, rows][:, :, columns]
    if scale_free:
        target = cross.square() / theirs
        error = ours - target
        scale = ours
    else:
        target, error = theirs, ours - 2 * cross + theirs
        scale = torch.maximum(ours, theirs)
    table = 10 * (target / error).log10()
    # Where a difference of nearly equal energies has lost digits, the signals themselves are subtracted.
    raw = dots.plain.diagonal(dim1=1, dim2=2)
    constant = matrix.diagonal(dim1=1, dim2=2) <= _CANCELS * raw
    lost = (error <= _CANCELS * scale) | constant[:, rows, None] | constant[:, None, columns]
    lost |= ~table.isfinite()
    silent = (raw[:, None, columns] == 0).expand_as(table)
    table = table.masked_fill(silent, torch.nan)
    metric = signal.si_sdr if scale_free else signal.sdr
    everything = [one for part in dots.signals for one in part]
    for channel, row, column in (lost & ~silent).nonzero().tolist():
        one, other = everything[rows[row]][channel], everything[columns[column]][channel]
        table[channel, row, column] = metric(one, other)
    return table


def _attenuation(dots: Products, count: int) -> Tensor:
    """(C, Q) dB by which estimates lie below the mixture; NaN where that is silent."""
    power = dots.plain.diagonal(dim1=1, dim2=2)
    mixture = power[:, 2 * count : 2 * count + 1]
    return (10 * (mixture / power[:, :count]).log10()).masked_fill(mixture == 0, torch.nan)


def _sum_error(dots: Products, count: int) -> Tensor:
    """(C,) dB of what the estimates together miss of the mixture, relative to it; NaN where it is silent."""
    weights = torch.zeros(dots.plain.shape[1], dtype=torch.float64)
    weights[:count], weights[2 * count] = 1, -1
    missed = torch.einsum("i,cij,j->c", weights, dots.plain, weights)
    mixture = dots.plain[:, 2 * count, 2 * count]
    scale = dots.plain.diagonal(dim1=1, dim2=2).sum(1)
    if (missed <= _CANCELS * scale).any():  # as above: take the difference itself
        estimates, _, whole, _ = dots.signals
        missed = (estimates.double().sum(0) - whole[0].double()).square().sum(-1)
    return (10 * (missed / mixture).log10()).masked_fill(mixture == 0, torch.nan)
