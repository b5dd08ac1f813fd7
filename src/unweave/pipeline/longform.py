"""Recordings of any length: a separator made of a separator, in windows, in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.pipeline.native import without_sound
from unweave.types import Query, Separator


@dataclass(frozen=True, eq=False)
class Chunked:
    """Ask `separator` window by window and cross-fade its answers.

    Every window hears `context` seconds of its neighbours on either side and gives them back unused,
    so what is used was never heard next to an edge; only the ends of the recording are edges. In the
    `fade` seconds that two windows share, their weights sum to one. The last window reaches back so
    that it is as long as the others.
    """

    separator: Separator
    window: float = 10.0  # seconds heard at once, context included
    context: float = 1.0  # seconds on either side
    fade: float = 0.5  # seconds

    def __post_init__(self) -> None:
        if self.context < 0 or self.fade < 0 or self._hop < max(1, self._samples(self.fade)):
            raise UsageError(
                f"a window of {self.window} s has no room for {self.context} s of context and {self.fade} s "
                f"of fade on either side; make it longer than {2 * (self.context + self.fade)} s"
            )

    @property
    def sample_rate(self) -> int:
        """Hz, the separator's."""
        return self.separator.sample_rate

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T), Q queries -> (Q, C, T); spans are seconds from the mixture's start."""
        stems = mixture.new_zeros((len(queries), *mixture.shape))
        done = 0
        for _, piece in self.stream([mixture], queries):
            stems[..., done : done + piece.shape[-1]] = piece
            done += piece.shape[-1]
        return stems

    def stream(self, blocks: Iterable[Tensor], queries: Sequence[Query]) -> Iterator[tuple[Tensor, Tensor]]:
        """Separate sound as it arrives.

        Args:
            blocks: successive (C, any length) pieces of the recording.
            queries: spans are seconds from the recording's start.

        Yields:
            Successive (mixture (C, t), stems (Q, C, t)): together the recording, every sample once.
            A few windows are held at a time, however long the recording is.
        """
        context, fade = self._samples(self.context), self._samples(self.fade)
        rising = _rise(fade)
        tail: Tensor | None = None  # (Q, C, fade): the window before, where this one fades in
        trusted = 0  # first sample of the recording that has not been given out
        for start, heard, is_last in self._windows(blocks):
            stems = self._ask(heard, queries, start)
            skip = trusted - start
            stop = heard.shape[-1] if is_last else heard.shape[-1] - context - fade
            mixture, piece = heard[:, skip:stop], stems[..., skip:stop]
            if tail is not None and fade:
                piece = piece.clone()
                piece[..., :fade] = torch.lerp(tail, piece[..., :fade], rising.to(piece))
            yield mixture, piece
            tail = stems[..., stop : stop + fade].clone()
            trusted = start + stop

    def _windows(self, blocks: Iterable[Tensor]) -> Iterator[tuple[int, Tensor, bool]]:
        """(first sample, (C, window) sound, whether it is the last), one hop apart but for the last."""
        size, hop = self._samples(self.window), self._hop
        held: Tensor | None = None  # what is still needed of the recording, from sample `first` on
        first = start = 0
        for block in (part for whole in blocks for part in torch.split(whole, size, dim=1)):
            held = block if held is None else torch.cat([held, block], dim=1)
            # A window is known not to be the last one when there is a sample after it.
            while first + held.shape[-1] > start + size:
                yield start, held[:, start - first : start - first + size], False
                start += hop
                behind = max(0, start - size - first)  # the last window may reach back this far
                held, first = held[:, behind:].clone(), first + behind
        if held is not None and held.shape[-1] > 0:
            reach = max(0, held.shape[-1] - size)
            yield first + reach, held[:, reach:], True

    def _ask(self, heard: Tensor, queries: Sequence[Query], start: int) -> Tensor:
        """Answers for the window at sample `start`; the engine is asked only what it can matter for."""
        stems = without_sound(heard, queries)
        if not heard.any():
            return stems
        offset, seconds = start / self.sample_rate, heard.shape[-1] / self.sample_rate
        asked = [(i, local) for i, query in enumerate(queries) if (local := _shifted(query, offset, seconds))]
        if asked:
            answers = self.separator.separate(heard, [query for _, query in asked])
            stems[[i for i, _ in asked]] = answers.to(stems)
        return stems

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    @property
    def _hop(self) -> int:
        return self._samples(self.window) - 2 * self._samples(self.context) - self._samples(self.fade)


def _shifted(query: Query, offset: float, seconds: float) -> Query | None:
    """`query` as a window of `seconds` starting at `offset` sees it; None where it cannot sound."""
    if not query.spans:
        return query
    spans = tuple(
        (max(0.0, start - offset), end - offset)
        for start, end in query.spans
        if start < offset + seconds and end > offset
    )
    return replace(query, spans=spans) if spans else None


def _rise(length: int) -> Tensor:
    """(length,) raised cosine from 0 to 1; with its mirror image it sums to one."""
    return torch.sin((torch.arange(length) + 0.5) / max(1, length) * (torch.pi / 2)).square()
