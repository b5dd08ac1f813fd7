"""What semantic metrics listen with: protocols, the one that comes along, and `load` for all of them.

A protocol is one ability, so that a metric says exactly what it needs and any object that has it will do.
Published models lie in `pretrained.py`. What every number was heard with is part of the number: the report
prints `name`.
"""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, pad

from unweave.errors import ModelError, UnknownNameError, UsageError
from unweave.evaluate.metrics.pretrained import (
    WINDOW,
    AudioLanguageModel,
    Clap,
    Tagger,
    one_signal,
    windows,
)
from unweave.listen import tagger
from unweave.signal.stft import stft
from unweave.types import Query

OWN = tagger.DEFAULT


class AudioEmbedder(Protocol):
    """Sounds to vectors; near each other where the sounds are alike."""

    name: str  # of the model and its weights, for the report

    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) finite samples at `sample_rate` Hz -> (D,), the same for the same samples."""
        ...


class SoundAndTextEmbedder(AudioEmbedder, Protocol):
    """Sounds and words to vectors of one space."""

    def embed_text(self, text: str) -> Tensor:
        """Words -> (D,), near the vectors of the sounds they name."""
        ...


class LayeredEmbedder(Protocol):
    """What a network makes of a sound on its way, layer by layer."""

    name: str

    def layers(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(T,) -> one (W, L, C) per layer: W windows, L tokens, C channels, fixed by T and the rate."""
        ...


class AudioTagger(Protocol):
    """How probable each of a fixed list of tags is."""

    name: str
    labels: tuple[str, ...]

    def tags(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (K,) log-probabilities of the K labels, which add up to 1."""
        ...


class Own:
    """The shipped listener: offline, small, and trained on few recordings.

    A sound is the mean of its frames' vectors, each weighing as the fourth root of its power; a text is what
    the listener holds them against. How well it names sounds is in its card (`unweave models info listener`).
    Compare systems with it, do not compare its numbers with any paper's. The gain of a sound makes no
    difference to it. Implements `SoundAndTextEmbedder` and `LayeredEmbedder`.

    Args:
        weights: a published name, or a safetensors file of a listener.
        device: as torch names it.

    Raises:
        ModelError: the weights, or the text encoder, are missing or damaged.
    """

    def __init__(self, weights: str | Path = OWN, device: str = "cpu") -> None:
        listener = tagger.load(weights, device)
        self._network, self._encoder = listener.network, listener.encoder
        self.name, self.device = f"own {Path(weights).stem}", device
        self.sample_rate = listener.sample_rate

    @torch.no_grad()
    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (D,) unit vector: of sounds above 10 s, the mean of the unit vectors of windows of 10 s."""
        vectors, stride = [], self._network.config.stride
        for features in self._features(samples, sample_rate):
            frames = -(-features.shape[-1] // stride)
            made = self._network.judge(self._network.collect(self._padded(features)))[0, :frames]
            heard = 10 ** (features[0, 0] / 2)  # the first feature is the log of the amplitude
            weight = adaptive_avg_pool2d(heard[None, None], (1, frames))[0, 0, 0]
            vectors.append(normalize((weight @ made) / weight.sum(), dim=0))
        return normalize(torch.stack(vectors).mean(0), dim=0).cpu()

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """A text -> (D,) unit vector.

        Raises:
            QueryError: the text is empty, or longer than the encoder reads.
        """
        directions, _ = self._network.read(self._encoder.encode([Query(text)]))
        return normalize(directions[0], dim=0).cpu()

    @torch.no_grad()
    def layers(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(T,) -> one (W, L, C) per level of the way down: W windows, L places (band, time), C channels."""
        found: list[list[Tensor]] = []
        for features in self._features(samples, sample_rate):
            levels = self._network.encoder.listen(self._padded(features))
            # Level i has a column for every 2 ** (i + 1) frames; those of the padding are left out.
            kept = [-(-features.shape[-1] // 2 ** (depth + 1)) for depth in range(len(levels))]
            found.append([level[..., :width] for level, width in zip(levels, kept, strict=True)])
        return [torch.cat(maps).flatten(2).mT.cpu() for maps in zip(*found, strict=True)]

    def _features(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(1, 3, bands, N) of every window, as the separator computes them of a mixture."""
        encoder = self._network.encoder
        config, bands = encoder.config, encoder.bands
        size = bands.sum(1)[:, None]
        features = []
        whole = one_signal(samples, sample_rate, self.sample_rate)
        for window in windows(whole, round(WINDOW * self.sample_rate)):
            magnitude = stft(window.to(self.device), config.fft_size, config.hop).abs()
            power = bands @ magnitude.square() / size
            features.append(encoder.features(power[None], (bands @ magnitude / size)[None]))
        return features

    def _padded(self, features: Tensor) -> Tensor:
        spare = -features.shape[-1] % self._network.encoder.config.stride
        return pad(features, (0, spare, 0, 0), mode="replicate")


_KINDS: dict[str, type[Clap] | type[Tagger] | type[AudioLanguageModel]] = {
    "clap": Clap,
    "tagger": Tagger,
    "flamingo": AudioLanguageModel,
}


def load(
    kind: str, source: str | Path | None = None, revision: str | None = None, device: str = "cpu"
) -> Own | Clap | Tagger | AudioLanguageModel:
    """An embedder by the name that a command line gives it.

    Args:
        kind: "own", "clap", "tagger" or "flamingo".
        source: a folder, a hub name, or for "own" a weight file; none means the published model of its kind.
        revision: the commit of a hub name.
        device: as torch names it.

    Raises:
        UnknownNameError: there is no such kind.
        ModelError: its files are missing or damaged, or it is MS-CLAP.
        UsageError: a hub name without a commit.

    >>> load("own").embed_text("rain").shape
    torch.Size([384])
    """
    if "msclap" in f"{kind} {source or ''}".lower().replace("-", "").replace("_", ""):
        raise ModelError(
            "MS-CLAP is not in transformers, and its own package wants torchaudio, which unweave does "
            "without; use the embedder 'clap', and do not compare its scores with those of MS-CLAP"
        )
    if kind == "own":
        if revision is not None:
            raise UsageError(f"the embedder 'own' has no revision {revision!r}; leave it out")
        return Own(source or OWN, device)
    if kind not in _KINDS:
        raise UnknownNameError("embedder", kind, ["own", *_KINDS])
    adapter = _KINDS[kind]
    return adapter(revision=revision, device=device) if source is None else adapter(source, revision, device)
