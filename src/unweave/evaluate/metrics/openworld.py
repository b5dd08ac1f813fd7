"""What counts when nobody says what is in a recording: the right sounds, named, found, and nothing else.

The arithmetic is in float64. What means nothing is NaN, and callers count NaNs instead of averaging.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import (
    _centred,
    _db,
    _power,
    check_finite,
    check_pair,
    sdr_improvement,
    si_sdr,
)
from unweave.signal.matching import assign
from unweave.types import Query, QueryEncoder

TextSimilarity = Callable[[Sequence[str], Sequence[str]], Tensor]  # P and R texts -> (P, R), 1 = the same

_HEARD = 0.01  # of the weakest source's power, 20 dB down: an output below it is as good as silent
_ROUNDING = 1e-14  # of the signal's power, 140 dB down: an error below it is float32 rounding


def class_aware_sdri(
    estimates: Mapping[str, Tensor], references: Mapping[str, Tensor], mixture: Tensor
) -> Tensor:
    """SDR improvement over all labels, where a missed or invented one counts 0 dB: CA-SDRi.

    The measure of the DCASE 2025 challenge, task 4 (Yasuda et al., "Description and Discussion on DCASE 2025
    Challenge Task 4: Spatial Semantic Segmentation of Sound Scenes"): the mean over the union of the labels
    that are there and those that were predicted. Labels are compared as they are written.

    Args:
        estimates: (..., T) for every predicted label.
        references: (..., T) for every label that is there.
        mixture: (..., T).

    Returns:
        (...) float64 dB, higher is better; NaN where there is no label at all, or where a reference that was
        answered is silent.

    Raises:
        UsageError: shapes differ, or a sample is NaN or infinite.

    >>> source, noise = torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    >>> answers = {"dog": source + 0.1 * noise, "cat": noise}  # 20 dB, and a cat that is not there
    >>> class_aware_sdri(answers, {"dog": source}, source + noise).round(decimals=3).item()
    10.0
    """
    for kind, signals in (("estimate", estimates), ("reference", references)):
        for label, samples in signals.items():
            check_pair(samples, mixture, f"{kind} of {label!r}", "mixture")
    labels = estimates.keys() | references.keys()
    total = mixture.new_zeros(mixture.shape[:-1], dtype=torch.float64)
    for label in sorted(estimates.keys() & references.keys()):
        total = total + sdr_improvement(estimates[label], references[label], mixture)
    return total / len(labels) if labels else torch.full_like(total, torch.nan)


def count_accuracy(predicted: Tensor, true: Tensor) -> Tensor:
    """Whether as many sounds were found as there are; the mean over recordings is the accuracy.

    Args:
        predicted: (...) whole numbers, one for each recording.
        true: (...), same shape.

    Returns:
        (...) float64, 1 or 0.

    Raises:
        UsageError: the shapes differ, or a number is not whole.

    >>> count_accuracy(torch.tensor([2, 3, 1]), torch.tensor([2, 2, 1])).tolist()
    [1.0, 0.0, 1.0]
    """
    if predicted.shape != true.shape:
        raise UsageError(
            f"every predicted count is compared with a true one, got {tuple(predicted.shape)} and "
            f"{tuple(true.shape)}; give one of each for each recording"
        )
    for name, counts in (("predicted", predicted), ("true", true)):
        if not bool((counts == counts.double().floor()).all()) or bool((counts < 0).any()):
            raise UsageError(f"counts are whole numbers from 0 on; the {name} ones are {counts.tolist()}")
    return (predicted == true).double()


def surplus_outputs(outputs: Tensor, sources: Tensor) -> Tensor:
    """By how many outputs a mixture was split too finely, or not finely enough, by unconditional separation.

    An output counts if it is less than 20 dB weaker than the weakest source that sounds. Under- and
    over-separation of Wisdom et al., "What's All the FUSS About Free Universal Sound Separation Data?",
    ICASSP 2021, are the shares of mixtures below and above 0.

    Args:
        outputs: (M, ..., T).
        sources: (K, ..., T).

    Returns:
        (...) float64: 0 where as many outputs sound as sources, negative where sounds share an output; NaN
        where no source sounds.

    Raises:
        UsageError: shapes differ, or a sample is NaN or infinite.

    >>> tones = torch.eye(3)
    >>> surplus_outputs(torch.stack([tones[0] + tones[1], 0.01 * tones[2], tones[2]]), tones).item()
    -1.0
    """
    if outputs.shape[1:] != sources.shape[1:]:
        raise UsageError(
            f"outputs and sources are (number, ..., time) of one mixture, got {tuple(outputs.shape)} and "
            f"{tuple(sources.shape)}; hand in what was split and what it was made of"
        )
    check_finite(outputs, "outputs")
    check_finite(sources, "sources")
    ours, theirs = _power(outputs.double()), _power(sources.double())
    weakest = theirs.masked_fill(theirs == 0, torch.inf).amin(0)
    surplus = (ours > _HEARD * weakest).sum(0) - (theirs > 0).sum(0)
    return surplus.double().masked_fill(weakest.isinf(), torch.nan)


@dataclass(frozen=True)
class LabelF1:
    """How well predicted labels answer true ones."""

    precision: float  # share of the predicted labels that have a partner; NaN where none was predicted
    recall: float  # share of the true labels that have a partner; NaN where there are none
    f1: float  # twice the pairs over all labels; NaN where there are neither
    pairs: tuple[tuple[int, int], ...]  # index of a predicted label, index of its true one


def label_f1(
    predicted: Sequence[str], true: Sequence[str], similarity: TextSimilarity, threshold: float = 0.7
) -> LabelF1:
    """F1 of labels in free words, where a similar one is as good as the same.

    Labels whose similarity is at least `threshold` may form a pair; each takes part in one pair at most, and
    the pairs are those whose similarities sum to the most (Hungarian method). A label given twice needs two
    partners.

    Args:
        predicted: labels that were found.
        true: labels that are there.
        similarity: `same_words`, or `similarity_by` of an encoder.
        threshold: of similarity. The default is for cosines of all-MiniLM-L6-v2: "dog barking" and "barking
            dog" have 0.96, "rain" and "rainfall" 0.80, but so nearly has "dog growling", 0.73.

    Raises:
        UsageError: `similarity` does not give a number for each predicted and true label, or `threshold` is
            not above 0.

    >>> found = label_f1(["rain", "cat"], ["rain", "dog", "bird"], same_words)
    >>> found.precision, round(found.recall, 3), round(found.f1, 3), found.pairs
    (0.5, 0.333, 0.4, ((0, 0),))
    """
    if not threshold > 0:
        raise UsageError(f"labels pair up from a similarity above 0 on, got the threshold {threshold}")
    pairs: tuple[tuple[int, int], ...] = ()
    if predicted and true:
        values = similarity(predicted, true)
        if values.shape != (len(predicted), len(true)) or bool(values.isnan().any()):
            raise UsageError(
                f"similarity of {len(predicted)} predicted and {len(true)} true labels gave "
                f"{tuple(values.shape)} values, {int(values.isnan().sum())} of them NaN; wanted is a "
                f"number for each pair"
            )
        pairs = _pairs(values.double().cpu(), threshold)
    total = len(predicted) + len(true)
    return LabelF1(
        precision=len(pairs) / len(predicted) if predicted else float("nan"),
        recall=len(pairs) / len(true) if true else float("nan"),
        f1=2 * len(pairs) / total if total else float("nan"),
        pairs=pairs,
    )


def same_words(predicted: Sequence[str], true: Sequence[str]) -> Tensor:
    """1 for the same label, whatever its case and the spaces around it, else 0; P and R texts -> (P, R)."""
    columns = [text.strip().casefold() for text in true]
    rows = [[float(text.strip().casefold() == other) for other in columns] for text in predicted]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(predicted), len(true))


def similarity_by(encoder: QueryEncoder) -> TextSimilarity:
    """The cosine between what `encoder`, for example `encoders.minilm.MiniLM`, makes of two labels."""

    def similarity(predicted: Sequence[str], true: Sequence[str]) -> Tensor:
        one, other = (encoder.encode([Query(text) for text in texts]) for texts in (predicted, true))
        return one.double() @ other.double().T

    return similarity


def presence_auroc(scores: Tensor, present: Tensor) -> Tensor:
    """How well a score tells sounds that are there from sounds that are not: area under the ROC curve.

    It is the chance that a present one scores higher than an absent one, ties counting half. Mann and
    Whitney, "On a Test of Whether one of Two Random Variables is Stochastically Larger than
    the Other", 1947.

    Args:
        scores: (N,), higher is more certain; infinite ones are allowed.
        present: (N,) bool.

    Returns:
        () float64: 1 is perfect, 0.5 chance; NaN where all or none are present.

    Raises:
        UsageError: the shapes differ, `present` is not bool, or a score is NaN.

    >>> presence_auroc(torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([True, True, False, False])).item()
    0.875
    """
    if scores.ndim != 1 or scores.shape != present.shape or present.dtype != torch.bool:
        raise UsageError(
            f"presence wants (N,) scores and (N,) bool, got {tuple(scores.shape)} and "
            f"{tuple(present.shape)} {present.dtype}"
        )
    if scores.isnan().any():
        raise UsageError("a score is NaN, so it has no rank; leave it out and count it")
    here, gone = scores[present], scores[~present]
    ordered = gone.sort().values
    below, upto = torch.searchsorted(ordered, here), torch.searchsorted(ordered, here, right=True)
    return (below + upto).double().sum() / (2.0 * len(here) * len(gone))  # 0 / 0 is NaN


def wrong_target(estimate: Tensor, reference: Tensor, others: Tensor) -> Tensor:
    """Whether an estimate is closer, in SI-SDR, to another source than to the one that was asked for.

    Args:
        estimate: (..., T).
        reference: (..., T), what was asked for.
        others: (S, ..., T), the other sources of the mixture; silent ones are passed over.

    Returns:
        (...) float64, 1 or 0, lower is better; 0 for a silent estimate, which is close to none. NaN where the
        reference is silent.

    Raises:
        UsageError: shapes differ, or a sample is NaN or infinite.
    """
    check_finite(others, "others")
    mine = si_sdr(estimate, reference)
    wrong = torch.zeros_like(mine, dtype=torch.bool)
    for other in others:
        wrong |= si_sdr(estimate, other) > mine  # false where the other is silent, and so NaN
    return wrong.double().masked_fill(mine.isnan(), torch.nan)


def consistency_error_db(estimates: Tensor, mixture: Tensor) -> Tensor:
    """What the stems together miss of the mixture, or add to it, relative to the mixture.

    Args:
        estimates: (Q, ..., T), all stems, the rest among them.
        mixture: (..., T).

    Returns:
        (...) float64 dB, lower is better: -inf where they sum to it exactly, about -140 where they do to
        float32 rounding, 0 for silence; NaN where the mixture is silent.

    Raises:
        UsageError: shapes differ, or a sample is NaN or infinite.

    >>> stems = torch.tensor([[0.5, -0.5], [0.4, -0.4]])
    >>> consistency_error_db(stems, torch.tensor([1.0, -1.0])).round().item()
    -20.0
    """
    if estimates.shape[1:] != mixture.shape:
        raise UsageError(
            f"stems of shape (Q, ..., T) are summed up to a mixture of shape (..., T), got "
            f"{tuple(estimates.shape)} and {tuple(mixture.shape)}"
        )
    check_finite(estimates, "estimates")
    check_finite(mixture, "mixture")
    mixture = mixture.double()
    power = _power(mixture)
    return _db(_power(estimates.double().sum(0) - mixture), power).masked_fill(power == 0, torch.nan)


def seam_error_db(
    estimate: Tensor, whole: Tensor, borders: Sequence[int], sample_rate: int, radius: float = 0.02
) -> Tensor:
    """How much more separation in pieces errs where pieces meet than elsewhere.

    The error is the difference to the same separation done in one piece; its mean power within `radius` of a
    border is compared with that of all other samples. A seam that cannot be told from the rest has 0 dB; a
    click at a border shows however small the error elsewhere is.

    Args:
        estimate: (..., T), made of pieces.
        whole: (..., T), same shape, made in one piece.
        borders: samples at which a piece begins, 0 < border < T.
        sample_rate: Hz.
        radius: seconds on either side of a border that count as the seam.

    Returns:
        (...) float64 dB, lower is better: inf for an error at seams alone, -inf for one that spares them; NaN
        where there is no error, none above float32 rounding that is, or no border, or nothing but seams.

    Raises:
        UsageError: the shapes differ, a sample is NaN or infinite, or a border lies outside.
    """
    check_pair(estimate, whole, other_name="whole")
    length = estimate.shape[-1]
    outside = [border for border in borders if not 0 < border < length]
    if outside:
        raise UsageError(f"borders lie between 0 and the length {length}, not at {outside[:3]}")
    reach = round(radius * sample_rate)
    seam = torch.zeros(length, dtype=torch.bool, device=estimate.device)
    for border in borders:
        seam[max(0, border - reach) : border + reach] = True
    error = (estimate.double() - whole.double()).square()
    rounding = _ROUNDING * whole.double().square().mean(-1)
    near, far = error[..., seam].mean(-1), error[..., ~seam].mean(-1)  # NaN where there is no such sample
    near, far = (one.masked_fill(one <= rounding, 0) for one in (near, far))
    return _db(near, far)


def delay_samples(estimate: Tensor, reference: Tensor, longest: int = 16_000) -> Tensor:
    """By how much an estimate comes later than its reference: the lag of their strongest correlation.

    To be reported, never to be taken out: a late estimate does not add up with the others. Level, offset and
    polarity do not matter. Whole samples.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.
        longest: samples, in both directions, to look for; the default is half a second at 32 kHz.

    Returns:
        (...) float64 samples, above 0 where the estimate is late, below where it is early, the nearest to 0
        where several fit; NaN where one of the two is silent. A constant is silent here.

    Raises:
        UsageError: the shapes differ, or a sample is NaN or infinite.

    >>> click = torch.zeros(100)
    >>> click[40] = 1.0
    >>> delay_samples(-0.5 * click.roll(7), click).item()
    7.0
    """
    check_pair(estimate, reference)
    length = estimate.shape[-1]
    if length == 0:
        return estimate.new_full(estimate.shape[:-1], torch.nan, dtype=torch.float64)
    late, clean = _centred(estimate), _centred(reference)
    reach = min(longest, length - 1)
    size = _fast_size(length + reach)  # so that what wraps around meets zeros
    spectrum = torch.fft.rfft(late, size) * torch.fft.rfft(clean, size).conj()
    correlation = torch.fft.irfft(spectrum, size).abs()
    forward, backward = correlation[..., : reach + 1], correlation[..., size - reach :]
    around = torch.cat([backward, forward], dim=-1)  # lag -reach to reach
    lags = torch.arange(-reach, reach + 1, device=around.device)
    peak = around.amax(-1, keepdim=True)
    nearest = lags.abs().masked_fill(around < peak * (1 - 1e-9), reach + 1).argmin(-1)
    silent = ~(late.any(-1) & clean.any(-1))
    return lags[nearest].double().masked_fill(silent, torch.nan)


def _pairs(similarity: Tensor, threshold: float) -> tuple[tuple[int, int], ...]:
    """Index pairs of the (P, R) values from `threshold` on whose sum is largest, no row or column twice."""
    allowed = similarity >= threshold
    worth = similarity.masked_fill(~allowed, 0)  # what may not form a pair must not push another out
    wide = worth.shape[0] <= worth.shape[1]
    chosen = enumerate(assign(worth if wide else worth.T))
    pairs = [(row, column) if wide else (column, row) for row, column in chosen]
    return tuple(sorted((row, column) for row, column in pairs if allowed[row, column]))


def _fast_size(least: int) -> int:
    """The smallest size of an FFT from `least` on that is 1, 3 or 5 times a power of 2."""
    return min(factor << max(0, (-(-least // factor) - 1).bit_length()) for factor in (1, 3, 5))
