"""What is descended, from band sums instead of waveforms.

A mask that is constant over a band turns every energy of an estimate into a weighted sum over bands:
with mixture X, target T and mask m, |m X - T|^2 summed over a band is m^2 XX - 2 m XT + TT, where XX, XT
and TT are sums of |X|^2, Re(X T*) and |T|^2. No estimate is ever built, which makes a step as cheap
as the network alone. Overlapping Hann frames weigh every sample alike, so these are the energies
of the waveforms, but for what the inverse STFT would still repair.
"""

import torch
from torch import Tensor


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
