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

from unweave import hub
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, UnknownNameError, UsageError
from unweave.evaluate.metrics.pretrained import (
    WINDOW,
    AudioLanguageModel,
    Clap,
    Tagger,
    one_signal,
    windows,
)
from unweave.models.opensep import OpenSep, OpenSepConfig, channels_last
from unweave.signal.stft import stft
from unweave.types import Query

OWN = "opensep-small"


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
    """The shipped separator as a listener: offline, small and weak.

    OpenSep checks what its mask let through against the query; its gate is trained on that agreement. Here
    the mask is all open, so what is checked is the whole sound: the deepest map of the network, averaged with
    the fourth root of the power as weight, against the mean of the text's tokens, each through the linear
    layer that the network has for it. It was trained to tell whether a sound is in a mixture, not to name
    sounds: of 527 recordings with 90 labels it ranks the right label first for 8.5 % and among the first
    five for 40 % (chance: 1.1 and 5.6 %); of 236 with 22 labels it never learned, 9 and 42 % (4.5 and
    23 %). Compare systems with it, do not compare its numbers with any paper's. The gain of a sound makes no
    difference to it. Implements `SoundAndTextEmbedder` and `LayeredEmbedder`.

    Args:
        weights: a published name, or a safetensors file of an OpenSep network.
        device: as torch names it.

    Raises:
        ModelError: the weights, or the text encoder, are missing or damaged.
    """

    def __init__(self, weights: str | Path = OWN, device: str = "cpu") -> None:
        published = hub.WEIGHTS.get(str(weights))
        path = hub.path_of(published) if published else Path(weights)
        self._network = channels_last(hub.load(OpenSep, OpenSepConfig, path, device))
        self._encoder = MiniLM(device)
        self.name, self.device = f"own {path.stem}", device
        self.sample_rate = self._network.config.sample_rate

    @torch.no_grad()
    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (D,) unit vector: of sounds above 10 s, the mean of the unit vectors of windows of 10 s."""
        vectors = []
        for features in self._features(samples, sample_rate):
            padded, frames = self._padded(features), features.shape[-1]
            deep = self._network.listen(padded)[-1]
            heard = 10 ** (padded[:, :1] / 2)  # the first feature is the log of the amplitude
            heard[..., frames:] = 0  # the padding was not in the sound
            weight = adaptive_avg_pool2d(heard, (deep.shape[2], deep.shape[3]))
            pooled = (deep * weight).sum((2, 3)) / weight.sum((2, 3))
            vectors.append(normalize(self._network.found(pooled)[0], dim=-1))
        return normalize(torch.stack(vectors).mean(0), dim=-1).cpu()

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """A text -> (D,) unit vector.

        Raises:
            QueryError: the text is empty, or longer than the encoder reads.
        """
        tokens, _ = self._encoder.tokens([Query(text).text])
        return normalize(self._network.asked(tokens.mean(1))[0], dim=-1).cpu()

    @torch.no_grad()
    def layers(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(T,) -> one (W, L, C) per level of the way down: W windows, L places (band, time), C channels."""
        found: list[list[Tensor]] = []
        for features in self._features(samples, sample_rate):
            levels = self._network.listen(self._padded(features))
            # Level i has a column for every 2 ** (i + 1) frames; those of the padding are left out.
            kept = [-(-features.shape[-1] // 2 ** (depth + 1)) for depth in range(len(levels))]
            found.append([level[..., :width] for level, width in zip(levels, kept, strict=True)])
        return [torch.cat(maps).flatten(2).mT.cpu() for maps in zip(*found, strict=True)]

    def _features(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(1, 3, bands, N) of every window, as the separator computes them of a mixture."""
        config, bands = self._network.config, self._network.bands
        size = bands.sum(1)[:, None]
        features = []
        whole = one_signal(samples, sample_rate, self.sample_rate)
        for window in windows(whole, round(WINDOW * self.sample_rate)):
            magnitude = stft(window.to(self.device), config.fft_size, config.hop).abs()
            power = bands @ magnitude.square() / size
            features.append(self._network.features(power[None], (bands @ magnitude / size)[None]))
        return features

    def _padded(self, features: Tensor) -> Tensor:
        spare = -features.shape[-1] % self._network.config.stride
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
    torch.Size([192])
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
