"""An engine at the recording's own rate: what every engine's answers go through before anyone hears them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unweave.audio import resample
from unweave.errors import DeviceError
from unweave.signal.consistency import native_stems
from unweave.signal.masks import span_gain
from unweave.types import Query, Separator


class Native:
    """A separator at any rate, made of an engine at its own.

    The engine hears a resampled copy. Its estimates become soft masks on the untouched recording, so
    the stems have the recording's bandwidth, channels, level and phase, whatever the engine's are. That
    makes removal a subtraction: the mixture minus a stem that is a part of it. The engine is therefore
    always asked for the sound itself, and what is kept and what is removed add up to the recording.
    """

    def __init__(self, engine: Separator, sample_rate: int) -> None:
        self.engine = engine
        self.sample_rate = sample_rate  # Hz of the recording

    @torch.no_grad()
    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T) at the recording's rate, Q queries -> (Q, C, T); outside its spans a query is silent.

        Raises:
            DeviceError: the engine ran out of memory.
        """
        if not queries or not mixture.any():
            return without_sound(mixture, queries)
        heard = resample(mixture, self.sample_rate, self.engine.sample_rate)
        if heard.shape[-1] == 0:  # a few samples at a high rate may leave none at a low one
            return without_sound(mixture, queries)
        stems = native_stems(
            mixture,
            heard,
            self._ask(heard, [replace(query, keep=True) for query in queries]),
            torch.tensor([query.keep for query in queries]),
            mixture_rate=self.sample_rate,
            heard_rate=self.engine.sample_rate,
        )
        for stem, query in zip(stems, queries, strict=True):
            if query.spans:
                stem *= span_gain(query.spans, mixture.shape[-1], self.sample_rate)
            if not query.keep:
                torch.sub(mixture, stem, out=stem)
        return stems

    def _ask(self, heard: Tensor, queries: Sequence[Query]) -> Tensor:
        try:
            return self.engine.separate(heard, queries).cpu()
        except (torch.OutOfMemoryError, MemoryError) as error:
            seconds = heard.shape[-1] / self.engine.sample_rate
            raise DeviceError(
                f"out of memory while separating {len(queries)} sounds in {seconds:.1f} s of sound; "
                f"ask for fewer sounds at once, or use the device 'cpu'"
            ) from error


def without_sound(mixture: Tensor, queries: Sequence[Query]) -> Tensor:
    """The answer where no query sounds: (C, T) -> (Q, C, T), zeros, or the mixture where it is removed."""
    stems = mixture.new_zeros((len(queries), *mixture.shape))
    for stem, query in zip(stems, queries, strict=True):
        if not query.keep:
            stem.copy_(mixture)
    return stems
