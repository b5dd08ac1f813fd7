"""OpenSep: words in, a mask on the mixture's own spectrogram out. Network in `models/opensep.py`.

The network is told how a sound sounds beside its name, by `language/prompts.py` where the query does
not say: it was trained so, and it is what lets it find sounds whose name it never met.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unweave import encoders, hub
from unweave.encoders import TextEncoder
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError, UsageError
from unweave.language.prompts import PromptConfig, Prompts
from unweave.models import channels_last
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.signal.stft import istft, stft
from unweave.types import Query


class OpenSepSeparator:
    """Masks one mixture for any number of queries; what does not depend on the query is computed once."""

    def __init__(
        self, network: OpenSep, encoder: TextEncoder, device: str = "cpu", prompts: Prompts | None = None
    ) -> None:
        """Put the engine together.

        Args:
            network: on `device`, like the encoder.
            encoder: of the kind that the network was trained with.
            device: as torch names it.
            prompts: what the network is told of a query; by default as the shipped weights are.

        Raises:
            ModelError: the encoder's tokens are not of the size that the network reads.
        """
        if encoder.dim != network.config.text_dim:
            raise ModelError(
                f"the network reads text tokens of {network.config.text_dim} features, the encoder writes "
                f"{encoder.dim}; use the encoder that the weights name, {network.config.text!r}"
            )
        self.network, self.encoder, self.device = network, encoder, device
        if prompts is None:
            names = encoder if isinstance(encoder, MiniLM) else MiniLM(device)
            prompts = Prompts(PromptConfig(), names)
        self.prompts = prompts
        self.sample_rate = network.config.sample_rate

    @torch.inference_mode()
    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T) at `sample_rate`, Q queries -> (Q, C, T); all channels get the same mask.

        A query with `keep` False is answered by everything but the sound. A sound named in `not_text` is
        searched for as well, and where the mask finds more of it than of the query, it wins.

        Raises:
            QueryError: a query has no words; this engine does not take examples.
        """
        if mixture.ndim != 2:
            raise UsageError(f"separate wants a (channels, time) mixture, got {tuple(mixture.shape)}")
        if mixture.numel() == 0 or not queries or not mixture.any():
            return mixture.new_zeros(len(queries), *mixture.shape)
        config = self.network.config
        spectrum = stft(mixture.to(self.device), config.fft_size, config.hop)  # (C, F, N)
        masks = self._masks(spectrum, queries)  # (Q, bands, N)
        bins = masks.transpose(1, 2) @ self.network.bands  # (Q, N, F)
        estimates = [istft(mask.T * spectrum, mixture.shape[1], config.fft_size, config.hop) for mask in bins]
        return torch.stack(estimates).to(mixture)

    def _masks(self, spectrum: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, F, N) complex, Q queries -> (Q, bands, N) gated masks in [0, 1]."""
        # Energies of the channels are averaged, not their samples: sound in opposite phase must not vanish.
        energy = (spectrum.real.square() + spectrum.imag.square()).mean(0)
        bands, size = self.network.bands, self.network.bands.sum(1)[:, None]
        features = self.network.features((bands @ energy / size)[None], (bands @ energy.sqrt() / size)[None])
        words = [self.told(query) for query in queries]
        unwanted = [self.told(Query(query.not_text)) for query in queries if query.not_text.strip()]
        text, known = self.encoder.tokens(words + unwanted)
        logits, gate = self.network(features, text[None], known[None])
        masks = logits[0].sigmoid() * gate[0].sigmoid()[:, None, None]
        asked, rivals = list(masks[: len(queries)]), iter(masks[len(queries) :])
        for index, query in enumerate(queries):
            if query.not_text.strip():
                rival = next(rivals)
                asked[index] = asked[index].square() / (asked[index] + rival).clamp(min=1e-6)
            if not query.keep:
                asked[index] = 1 - asked[index]
        return torch.stack(asked)

    def told(self, query: Query) -> str:
        """What the network is told of a query.

        Raises:
            QueryError: it has no words; this engine does not take examples.
        """
        if not query.text.strip():
            raise QueryError("this engine listens to words; give the query a text beside its example")
        return self.prompts.of(query)


def load(weights: Path, device: str = "cpu") -> OpenSepSeparator:
    """The engine from a weight file.

    Raises:
        ModelError: the file, or the text encoder, is missing or damaged.
    """
    network = hub.load(OpenSep, OpenSepConfig, weights, device)
    return OpenSepSeparator(channels_last(network), encoders.load(network.config.text, device), device)
