"""What a benchmark measures: any function from an example to estimates.

Oracles know the answer and show what is possible; baselines know nothing and show what is free.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.signal import consistency
from unweave.signal.masks import ratio_mask
from unweave.signal.stft import stft
from unweave.types import Example, Separator

System = Callable[[Example], Tensor]  # example -> (Q, C, T), one estimate for each query


def ideal_ratio_mask(example: Example) -> Tensor:
    """The best that a magnitude mask shared by all channels is commonly asked for; (Q, C, T).

    The rest is the mixture minus the source, so it holds what no query asks for as well.
    """
    fft_size, hop = consistency.grid(example.sample_rate)
    masks = []
    for source in example.sources:
        power, rest = (
            stft(samples, fft_size, hop).abs().square().sum(0)
            for samples in (source, example.mixture - source)
        )
        masks.append(ratio_mask(power, rest))
    if not masks:
        return example.sources.clone()
    return consistency.apply(example.mixture, torch.stack(masks), mixture_rate=example.sample_rate)


def nothing(example: Example) -> Tensor:
    """The mixture for every query; (Q, C, T). Every improvement of it is 0 dB."""
    return example.mixture.expand_as(example.sources).clone()


def half(example: Example) -> Tensor:
    """The mixture at half its level for every query; (Q, C, T).

    SI-SDR cannot tell it from `nothing`, SDR rewards it: a system has to beat it in both.
    """
    return nothing(example) / 2


def engine(separator: Separator) -> System:
    """A separator as a system.

    The system raises UsageError for an example at another rate: resampling changes what is measured, so it
    is the caller's decision.
    """

    def system(example: Example) -> Tensor:
        if example.sample_rate != separator.sample_rate:
            raise UsageError(
                f"example {example.id!r} is at {example.sample_rate} Hz, the engine works at "
                f"{separator.sample_rate} Hz; resample the example before measuring"
            )
        return separator.separate(example.mixture, example.queries)

    return system
