"""Unconditional separation, asked in words: split once, then pick for each query. Network: `models/tdcn.py`.

The network, trained by mixture invariant (Wisdom et al., NeurIPS 2020) or permutation invariant training,
takes a mixture apart without a word. What its outputs are is for the listener to say: the similarity of an
output and a query is the chance that what the query names sounds in the output.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unweave import hub
from unweave.errors import QueryError, UsageError
from unweave.listen import tagger
from unweave.listen.tagger import Tagger
from unweave.models.tdcn import TDCN, TDCNConfig
from unweave.signal.stft import istft, stft
from unweave.types import Query

IDLE = 0.01  # of the mixture's power, 20 dB down, to which training presses outputs that have no sound
NEAR = 0.5  # an output joins the one that fits a query best from this share of its fit on


class MixItSeparator:
    """Splits a mixture once and picks from the same outputs for every query."""

    def __init__(self, network: TDCN, ears: Tagger, device: str = "cpu") -> None:
        self.network, self.ears, self.device = network, ears, device
        self.sample_rate = network.config.sample_rate

    @torch.inference_mode()
    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T) at `sample_rate`, Q queries -> (Q, C, T).

        The answer to a query is the sum of its outputs, see `belonging`, at the level of the chance that it
        is there at all: what is not heard in any output is all but silent. A query with `keep` False gets
        the mixture without that. An output that fits `not_text` as well as the query is not the query's.
        `sounds_like` is not read, and which other sounds are asked for does matter.

        Raises:
            QueryError: a query has no words; this engine does not take examples.
        """
        if mixture.ndim != 2:
            raise UsageError(f"separate wants a (channels, time) mixture, got {tuple(mixture.shape)}")
        for query in queries:
            if not query.text.strip():
                raise QueryError("this engine listens to words; give the query a text beside its example")
        if mixture.numel() == 0 or not queries or not mixture.any():
            return mixture.new_zeros(len(queries), *mixture.shape)
        outputs = self.split(mixture)
        fits = self._fits(outputs, queries)
        share = belonging(fits) * fits.amax(1, keepdim=True)
        answers = torch.einsum("qm,mct->qct", share.to(outputs), outputs)
        for answer, query in zip(answers, queries, strict=True):
            if not query.keep:
                torch.sub(mixture, answer, out=answer)
        return answers

    @torch.inference_mode()
    def split(self, mixture: Tensor) -> Tensor:
        """(C, T) -> (M, C, T), what it is made of; the M outputs sum to it, some are all but silent."""
        config = self.network.config
        spectrum = stft(mixture.to(self.device), config.fft_size, config.hop)  # (C, F, N)
        # Energies of the channels are averaged, not their samples: sound in opposite phase must not vanish.
        energy = (spectrum.real.square() + spectrum.imag.square()).mean(0, keepdim=True)
        masks = self.network.masks(energy)[0]  # (M, F, N)
        outputs = [istft(mask * spectrum, mixture.shape[1], config.fft_size, config.hop) for mask in masks]
        return torch.stack(outputs).to(mixture)

    def _fits(self, outputs: Tensor, queries: Sequence[Query]) -> Tensor:
        """(Q, M) chances that an output holds what a query names; 0 where `not_text` has as good a chance.

        Outputs that are next to silent fit nothing: the listener, which hears no gain, would take what leaked
        into them for sounds.
        """
        names = [query.text for query in queries]
        unwanted = [query.not_text for query in queries if query.not_text.strip()]
        asked = list(dict.fromkeys(names + unwanted))
        chances = torch.zeros(len(asked), len(outputs))
        least = IDLE * outputs.sum(0).square().mean()
        for index, output in enumerate(outputs):
            if output.square().mean() > least:
                heard = self.ears.follow([output], self.sample_rate)
                chances[:, index] = self.ears.present(heard, asked)
        chance = dict(zip(asked, chances, strict=True))  # (M,) of each name
        fits = torch.stack([chance[name] for name in names])
        for own, query in zip(fits, queries, strict=True):
            if query.not_text.strip():
                own.masked_fill_(own <= chance[query.not_text], 0)
        return fits


def belonging(fits: Tensor) -> Tensor:
    """Which outputs answer which query.

    A query gets the output that fits it best, and each further one that fits no other query better and fits
    this one nearly as well as the best does (`NEAR`): a sound may be spread over several outputs. An output
    can be the best for two queries at once, where it holds both sounds.

    Args:
        fits: (Q, M), 0..1, how well each of M outputs fits each query; 0 is not at all.

    Returns:
        (Q, M) of 0 and 1.

    >>> belonging(torch.tensor([[0.9, 0.6, 0.0], [0.1, 0.7, 0.8]])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    best = fits.amax(1, keepdim=True)
    first = torch.zeros_like(fits).scatter_(1, fits.argmax(1, keepdim=True), 1.0).bool()
    more = (fits >= fits.amax(0)) & (fits >= NEAR * best)
    return ((first | more) & (fits > 0)).to(fits)


def load(weights: Path, device: str = "cpu") -> MixItSeparator:
    """The engine from a weight file, with the listener that comes along.

    Raises:
        ModelError: the file, the listener or its text encoder is missing or damaged.
    """
    return MixItSeparator(hub.load(TDCN, TDCNConfig, weights, device), tagger.load(device=device), device)
