"""What is descended: of masks from band sums instead of waveforms, of unnamed outputs from dot products.

A mask that is constant over a band turns every energy of an estimate into a weighted sum over bands:
with mixture X, target T and mask m, |m X - T|^2 summed over a band is m^2 XX - 2 m XT + TT, where XX, XT
and TT are sums of |X|^2, Re(X T*) and |T|^2. No estimate is ever built, which makes a step as cheap
as the network alone. Overlapping Hann frames weigh every sample alike, so these are the energies
of the waveforms, but for what the inverse STFT would still repair.
"""

import torch
from torch import Tensor

from unweave.signal.matching import assign, sharings

SILENT_DB = 20.0  # an output that nothing answers to is to lie this far below the mixture, not further


def snr_loss(mask: Tensor, mixed: Tensor, shared: Tensor, wanted: Tensor, ceiling_db: float = 30.0) -> Tensor:
    """Negative signal-to-noise ratio in dB of a masked mixture.

    Args:
        mask: (Q, bands, N).
        mixed: (Q, bands, N) energy of the mixture per band, XX.
        shared: (Q, bands, N) XT.
        wanted: (Q,) energy of the target, the sum of TT.
        ceiling_db: the loss flattens out here, so that no effort goes into what nobody hears.

    Returns:
        (Q,) dB, from -ceiling_db for a perfect mask; 0 for silence.
    """
    error = (mask.square() * mixed - 2 * mask * shared).sum((1, 2)) + wanted
    return 10 * (error / wanted.clamp(min=1e-12) + 10 ** (-ceiling_db / 10)).clamp(min=1e-6).log10()


def si_sdr_loss(
    mask: Tensor, mixed: Tensor, shared: Tensor, wanted: Tensor, ceiling_db: float = 30.0
) -> Tensor:
    """Negative scale-invariant signal-to-distortion ratio in dB of a masked mixture; arguments as `snr_loss`.

    Silence is no way out of it, as it is of `snr_loss`: a mask that has shrunk to nearly nothing still gets
    a full gradient for its shape.

    Returns:
        (Q,) dB, from -ceiling_db for a perfect mask up to +ceiling_db.
    """
    energy = (mask.square() * mixed).sum((1, 2)) * wanted
    likeness = (mask * shared).sum((1, 2)).clamp(min=0).square() / energy.clamp(min=1e-20)  # cosine, squared
    least = 10 ** (-ceiling_db / 10)
    return -10 * ((likeness + least) / (1 - likeness + least).clamp(min=least / 2)).log10()


def leak_loss(mask: Tensor, mixed: Tensor, floor_db: float = 35.0) -> Tensor:
    """Energy of a masked mixture against the mixture's, in dB: what an absent query lets through.

    Args:
        mask: (Q, bands, N).
        mixed: (Q, bands, N) energy of the mixture per band.
        floor_db: the loss flattens out this far down.

    Returns:
        (Q,) dB, 0 for the whole mixture, -floor_db for silence.
    """
    passed = (mask.square() * mixed).sum((1, 2)) / mixed.sum((1, 2)).clamp(min=1e-12)
    return torch.as_tensor(10 * (passed + 10 ** (-floor_db / 10)).log10())


def mean_of(values: Tensor, count: Tensor) -> Tensor:
    """Sum of the values divided by `count`, 0 where there are none.

    For losses over things of which there are more in one mixture than in another: where a batch is learned in
    parts, `count` is what the parts have on average (`loop.Learner.update`).

    >>> mean_of(torch.tensor([1.0, 2.0]), torch.tensor(4.0))
    tensor(0.7500)
    """
    return values.sum() / count.clamp(min=1e-6)


def permutation_loss(outputs: Tensor, references: Tensor, ceiling_db: float = 30.0) -> Tensor:
    """Negative SNR in dB of each reference, whichever output answers it, so that the sum is the least.

    Permutation invariant training with thresholds: Wisdom et al., "What's All the FUSS About Free Universal
    Sound Separation Data?", ICASSP 2021. Each reference has an output of its own; for silent references it
    is the level of theirs that counts, relative to the mixture.

    Args:
        outputs: (B, M, T).
        references: (B, K, T), K <= M; they sum to the mixture.
        ceiling_db: the loss of a reference flattens out here.

    Returns:
        (B, K) dB in the order of the references: from -ceiling_db for a perfect answer, 0 for silence; of
        silent references from -`SILENT_DB`.

    Raises:
        UsageError: more references than outputs, or NaN.
    """
    wanted = references.square().sum(-1)[..., None]  # (B, K, 1)
    error = outputs.square().sum(-1)[:, None] - 2 * references @ outputs.mT + wanted  # (B, K, M)
    losses = _thresholded(error, wanted, references.sum(1).square().sum(-1)[:, None, None], ceiling_db)
    chosen = torch.tensor([assign(-one) for one in losses.detach()], device=losses.device)
    return losses.gather(2, chosen[..., None])[..., 0]


def mixture_invariant_loss(outputs: Tensor, mixtures: Tensor, ceiling_db: float = 30.0) -> Tensor:
    """Negative SNR in dB of each of several mixtures that were added, from the best sums of outputs.

    Wisdom et al., "Unsupervised Sound Separation Using Mixture Invariant Training", NeurIPS 2020, equations
    2 and 3: every output goes to one mixture, in all ways there are, and the best way counts.

    Args:
        outputs: (B, M, T).
        mixtures: (B, K, T).
        ceiling_db: the loss of a mixture flattens out here.

    Returns:
        (B, K) dB, from -ceiling_db for perfect sums; 0 for silence.
    """
    ways = sharings(outputs.shape[1], mixtures.shape[1]).to(outputs)  # (P, K, M)
    alike = outputs @ outputs.mT  # (B, M, M); the energy of any sum of outputs is a sum of its entries
    ours = torch.einsum("pkm,bmn,pkn->bpk", ways, alike, ways)
    shared = torch.einsum("pkm,bkm->bpk", ways, mixtures @ outputs.mT)
    wanted = mixtures.square().sum(-1)[:, None]  # (B, 1, K)
    whole = mixtures.sum(1).square().sum(-1)[:, None, None]
    losses = _thresholded(ours - 2 * shared + wanted, wanted, whole, ceiling_db)  # (B, P, K)
    best = losses.detach().mean(2).argmin(1)
    return losses[torch.arange(len(losses)), best]


def _thresholded(error: Tensor, wanted: Tensor, mixed: Tensor, ceiling_db: float) -> Tensor:
    """Energies of errors, of references and of mixtures, which broadcast -> dB."""
    silent = wanted <= 0
    against = torch.where(silent, mixed, wanted).clamp(min=1e-12)
    least = torch.where(silent, 10 ** (-SILENT_DB / 10), 10 ** (-ceiling_db / 10))
    # As a difference of dot products an error may fall a little below 0.
    return torch.as_tensor(10 * ((error / against).clamp(min=0) + least).log10())
