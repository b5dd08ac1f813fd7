"""AudioSep: words to one vector, the vector steers a residual U-Net over the mixture's spectrogram.

Liu et al., "Separate Anything You Describe" (2023, arXiv 2308.05037). Network in `models/resunet.py`. The
published checkpoint brings the text side of CLAP along; weights of ours, of the same architecture made small,
are told the sentence vector of all-MiniLM-L6-v2 instead. What differs from the original: docs/baselines.md.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unweave import hub
from unweave.encoders.clap import FOLDER, ClapText
from unweave.encoders.minilm import MiniLM, wording
from unweave.errors import ModelError, QueryError, UsageError
from unweave.models import channels_last
from unweave.models.resunet import ResUNet, ResUNetConfig, official_name, published_config
from unweave.types import Query, QueryEncoder

CLAP = "query_encoder.model."  # what names of CLAP begin with in a published checkpoint


class AudioSepSeparator:
    """Asks the network for every query and channel; nothing is shared, as the query steers every layer."""

    def __init__(self, network: ResUNet, encoder: QueryEncoder, device: str = "cpu") -> None:
        self.network, self.encoder, self.device = network, encoder, device
        self.sample_rate = network.config.sample_rate

    @torch.inference_mode()
    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T) at `sample_rate`, Q queries -> (Q, C, T); every channel is heard by itself.

        A query with `keep` False is answered by the mixture minus the sound.

        Raises:
            QueryError: a query has no words, or says what the sound is not; this engine takes neither.
        """
        if mixture.ndim != 2:
            raise UsageError(f"separate wants a (channels, time) mixture, got {tuple(mixture.shape)}")
        for query in queries:
            self.told(query)
        stems = mixture.new_zeros(len(queries), *mixture.shape)
        if not stems.numel() or not mixture.any():
            return stems
        heard = mixture.to(self.device)
        vectors = self.encoder.encode(queries)
        for stem, query, vector in zip(stems, queries, vectors, strict=True):
            for answer, channel in zip(stem, heard, strict=True):
                # One by one: the maps of a single channel take most of the memory there is.
                answer.copy_(self.network(channel[None, None], vector[None])[0, 0])
            if not query.keep:
                torch.sub(mixture, stem, out=stem)
        return stems

    def told(self, query: Query) -> str:
        """What the encoder reads of a query.

        Raises:
            QueryError: it has no words, or says what the sound is not.
        """
        if not query.text.strip():
            raise QueryError("this engine listens to words; give the query a text beside its example")
        if query.not_text.strip():
            raise QueryError(
                f"this engine cannot be told what a sound is not ({query.not_text!r}); leave that out, or "
                f"use the model {hub.DEFAULT!r}"
            )
        return wording(query)


def load(weights: Path, device: str = "cpu") -> AudioSepSeparator:
    """The engine from a weight file: one that `unweave.hub.save` made, or the published checkpoint as it is.

    The latter needs the tokenizer of RoBERTa: from the folder "roberta-base" beside it, or from the hub.

    Raises:
        ModelError: the file, or the text encoder, is missing, damaged or of another network.
    """
    if weights.suffix in hub.FOREIGN:
        return _published(weights, device)
    network = hub.load(ResUNet, ResUNetConfig, weights, device)
    encoder = MiniLM(device)
    if network.config.condition_dim != encoder.dim:
        raise ModelError(
            f"{weights} wants vectors of {network.config.condition_dim} numbers, the text encoder gives "
            f"{encoder.dim}; train it with condition_dim = {encoder.dim}"
        )
    return AudioSepSeparator(channels_last(network), encoder, device)


def _published(path: Path, device: str) -> AudioSepSeparator:
    """The engine from a checkpoint of the original; every tensor is used, or known to be of no use."""
    tensors = hub.read_checkpoint(path)
    state = {name: tensor for key, tensor in tensors.items() if (name := official_name(key))}
    try:
        network = ResUNet(published_config(state))
        network.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path} does not hold AudioSep's network: {error}") from error
    # What of the query encoder is no CLAP keeps its whole name, which CLAP then refuses.
    clap = {
        key.removeprefix(CLAP): tensor for key, tensor in tensors.items() if key.startswith("query_encoder.")
    }
    encoder = ClapText(clap, path.parent / FOLDER, device)
    if encoder.dim != network.config.condition_dim:
        raise ModelError(
            f"{path} holds a text encoder of {encoder.dim} numbers for a network that wants "
            f"{network.config.condition_dim}; download it again"
        )
    ready = channels_last(network.to(device).eval().requires_grad_(False))
    return AudioSepSeparator(ready, encoder, device)
