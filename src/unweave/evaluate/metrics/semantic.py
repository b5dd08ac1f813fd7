"""Metrics of what is heard rather than of the waveform: how alike two sounds are to a network.

Each takes the embedder that listens, and means nothing without its name. Signals go to it one at a time, so
a number does not depend on what stands beside it. Silence has one rule each: a silent estimate is measured
like any other, as what the network makes of silence; where the reference is silent the number is NaN, which
callers count instead of averaging. Silent means that every sample is 0.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unweave.errors import QueryError, UsageError
from unweave.evaluate.metrics.embedders import (
    AudioEmbedder,
    AudioTagger,
    LayeredEmbedder,
    SoundAndTextEmbedder,
)
from unweave.evaluate.metrics.signal import check_finite, check_pair

Normalisation = Literal["channels", "tokens"]


def embeddings(signals: Tensor, sample_rate: int, embedder: AudioEmbedder) -> Tensor:
    """What `embedder` makes of every signal; for `frechet_audio_distance`, and to embed only once.

    Args:
        signals: (..., T) at `sample_rate` Hz.

    Returns:
        (..., D) float64.

    Raises:
        UsageError: there is no signal, it has no samples, or some are NaN or infinite.
    """
    _some(signals, "signals")
    check_finite(signals, "signals")
    rows = [embedder.embed_audio(row, sample_rate) for row in signals.reshape(-1, signals.shape[-1])]
    vectors: Tensor = torch.stack(rows).double()
    return vectors.reshape(*signals.shape[:-1], vectors.shape[-1])


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """(..., D) and (..., D) -> (...) float64 in [-1, 1]; NaN where one of them is zero.

    >>> cosine(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0])).square().round(decimals=6).item()
    0.5
    """
    one, other = one.double(), other.double()
    size: Tensor = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return (one * other).sum(-1) / size


def clap_text_score(
    estimates: Tensor, texts: Sequence[str], sample_rate: int, embedder: SoundAndTextEmbedder
) -> Tensor:
    """CLAP-T: cosine between the estimate and the words that asked for it, higher is better.

    Named so by Huang et al., "ZeroSep: separate anything in audio with zero training", 2025. There is no
    reference here: what is asked for but not in the mixture is the caller's to leave out.

    Args:
        estimates: (Q, ..., T) at `sample_rate` Hz.
        texts: Q texts, one for each along the first axis.

    Returns:
        (Q, ...) float64 in [-1, 1].

    Raises:
        UsageError: not one text for each, no samples, or samples that are NaN or infinite.
        QueryError: a text is empty or longer than the embedder reads.
    """
    if estimates.ndim < 2 or len(texts) != len(estimates):
        raise UsageError(
            f"CLAP-T wants one text for each estimate along the first axis, got {len(texts)} texts and "
            f"estimates of shape {tuple(estimates.shape)}"
        )
    if not all(text.strip() for text in texts):
        raise QueryError("CLAP-T compares with words, and one of the texts is empty; leave that estimate out")
    check_finite(estimates, "estimates")
    words = torch.stack([embedder.embed_text(text) for text in texts]).double()
    heard = embeddings(estimates, sample_rate, embedder)
    return cosine(heard, words.reshape(len(texts), *[1] * (heard.ndim - 2), -1).expand_as(heard))


def clap_audio_score(
    estimates: Tensor, references: Tensor, sample_rate: int, embedder: AudioEmbedder
) -> Tensor:
    """CLAP-A: cosine between estimate and reference, higher is better, 1 for the same sound.

    Named so by Huang et al., "ZeroSep: separate anything in audio with zero training", 2025.

    Args:
        estimates: (..., T) at `sample_rate` Hz.
        references: (..., T), same shape.

    Returns:
        (...) float64 in [-1, 1]; NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, there are no samples, or some are NaN or infinite.
    """
    _pair(estimates, references)
    heard, wanted = (embeddings(each, sample_rate, embedder) for each in (estimates, references))
    return cosine(heard, wanted).masked_fill(_silent(references), torch.nan)


def afsim(estimates: Tensor, references: Tensor, sample_rate: int, model: AudioEmbedder) -> Tensor:
    """AFSim: cosine between what an audio language model makes of estimate and reference, higher is better.

    As in the HSM-TSS paper: features of the last layer before the word classifier, averaged over the
    positions of a captioning prompt; `AudioLanguageModel` is made for it. All sounds share the prompt, so
    even unrelated ones lie far above 0: compare systems, not the number with 0.

    Args, returns, raises: as `clap_audio_score`.
    """
    return clap_audio_score(estimates, references, sample_rate, model)


def kl_divergence(estimates: Tensor, references: Tensor, sample_rate: int, tagger: AudioTagger) -> Tensor:
    """KL(reference || estimate) between distributions over tags, in nats, lower is better, 0 at best.

    Kreuk et al., "AudioGen", ICLR 2023; the softmax variant of audioldm_eval. The direction asks whether the
    estimate finds every tag that the reference has. Nothing is added to a probability: the logarithms come
    from the logits, so that a tag as good as excluded costs what it should (audioldm_eval adds 1e-6, which
    caps each term at 13.8 nats).

    Args:
        estimates: (..., T) at `sample_rate` Hz.
        references: (..., T), same shape.

    Returns:
        (...) float64; NaN where the reference is silent.

    Raises:
        UsageError: the shapes differ, there are no samples, or some are NaN or infinite.
    """
    _pair(estimates, references)
    values = []
    for estimate, reference in _rows(estimates, references):
        found, true = (tagger.tags(each, sample_rate).double() for each in (estimate, reference))
        values.append((true.exp() * (true - found)).sum())
    return torch.stack(values).reshape(references.shape[:-1]).masked_fill(_silent(references), torch.nan)


def lpaps(
    estimates: Tensor,
    references: Tensor,
    sample_rate: int,
    embedder: LayeredEmbedder,
    normalise: Normalisation = "channels",
) -> Tensor:
    """LPAPS: squared distance between a network's normalised features, added up over layers; lower is better.

    Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (LPIPS), CVPR 2018,
    equation 1 without learned weights, carried over to sound by Iashin and Rahtu, "Taming visually guided
    sound generation", BMVC 2021. Two conventions are in use, and their numbers do not compare:

    - "channels" (LPIPS): every token is a unit vector over channels; squared differences are added over
      channels and averaged over tokens. At most 4 per layer.
    - "tokens" (ZeroSep's evaluation): every channel is a unit vector over tokens; squared differences are
      added over tokens and averaged over channels. At most 4 per layer.

    A vector of zeros stays one. Windows of a long sound are averaged.

    Args:
        estimates: (..., T) at `sample_rate` Hz.
        references: (..., T), same shape.
        normalise: the convention.

    Returns:
        (...) float64, 0 for the same sound; NaN where the reference is silent.

    Raises:
        UsageError: an unknown convention, the shapes differ, no samples, or some are NaN or infinite.
    """
    axes = {"channels": -1, "tokens": -2}
    if normalise not in axes:
        raise UsageError(f"LPAPS normalises over 'channels' or 'tokens', got {normalise!r}")
    axis = axes[normalise]
    _pair(estimates, references)
    values = []
    for estimate, reference in _rows(estimates, references):
        layers = zip(*(embedder.layers(each, sample_rate) for each in (estimate, reference)), strict=True)
        distances = [
            (normalize(found.double(), dim=axis) - normalize(true.double(), dim=axis))
            .square()
            .sum(axis)
            .mean()  # windows are of one size, so this is the mean over windows as well
            for found, true in layers
        ]
        values.append(torch.stack(distances).sum())
    return torch.stack(values).reshape(references.shape[:-1]).masked_fill(_silent(references), torch.nan)


def frechet_audio_distance(estimates: Tensor, references: Tensor) -> Tensor:
    """FAD: distance between two sets of sounds as if their embeddings were Gaussian; lower is better.

    Kilgour et al., "Fréchet audio distance", Interspeech 2019, after Dowson and Landau, 1982:
    |m - n|^2 + tr(C) + tr(D) - 2 tr((C D)^(1/2)) with the means m, n and the covariances C, D (divided by the
    count less one) of both sets. With C = A' A and D = B' B the trace of the root is the sum of the singular
    values of A B', so no root is taken of a matrix or of a rounding error. With fewer sounds than dimensions
    the covariances are singular; the value stays defined and exact for them, but few sounds make it too
    large: compare sets of one size only.

    Args:
        estimates: (N, D) embeddings, as from `embeddings`.
        references: (M, D) embeddings; N and M at least 2, and they may differ. A sound whose reference is
            silent belongs in neither.

    Returns:
        () float64, not below 0.

    Raises:
        UsageError: the sets are not matrices of one width, too small, or hold NaN or infinity.
    """
    if estimates.ndim != 2 or references.ndim != 2 or estimates.shape[1] != references.shape[1]:
        raise UsageError(
            f"FAD wants two sets of embeddings, (N, D) and (M, D), got {tuple(estimates.shape)} and "
            f"{tuple(references.shape)}"
        )
    if min(len(estimates), len(references)) < 2:
        raise UsageError(
            f"FAD wants two sounds or more in each set, got {len(estimates)} and {len(references)}; a "
            f"single one has no spread"
        )
    check_finite(estimates, "estimates")
    check_finite(references, "references")
    estimates, references = estimates.double(), references.double()
    found, true = _spread(estimates), _spread(references)
    shared = torch.linalg.svdvals(found @ true.mT).sum()
    apart = (estimates.mean(0) - references.mean(0)).square().sum()
    distance: Tensor = apart + found.square().sum() + true.square().sum() - 2 * shared
    return distance.clamp(min=0)  # equal sets may come out below by a rounding error


def _spread(vectors: Tensor) -> Tensor:
    """(N, D) -> (min(N, D), D) with the covariance as its Gram matrix."""
    centred = (vectors - vectors.mean(0)) / (len(vectors) - 1) ** 0.5
    triangle: Tensor = torch.linalg.qr(centred, mode="r").R
    return triangle


def _pair(estimates: Tensor, references: Tensor) -> None:
    check_pair(estimates, references, "estimates", "references")
    _some(estimates, "estimates")


def _some(signals: Tensor, name: str) -> None:
    if not signals.numel():
        raise UsageError(
            f"the {name} are empty, of shape {tuple(signals.shape)}; leave them out of the measurement"
        )


def _rows(estimates: Tensor, references: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    length = references.shape[-1]
    return zip(estimates.reshape(-1, length), references.reshape(-1, length), strict=True)


def _silent(references: Tensor) -> Tensor:
    return (references == 0).all(-1)
