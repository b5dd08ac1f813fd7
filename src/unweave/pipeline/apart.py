"""A recording taken apart in one or several goes: every go asks for sounds in what the earlier ones left."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unweave.pipeline import judge
from unweave.pipeline.longform import Chunked
from unweave.pipeline.native import Native, without_sound
from unweave.pipeline.rig import Rig
from unweave.pipeline.shelf import Shelf
from unweave.signal.consistency import residual
from unweave.types import Query

Progress = Callable[[float, float | None], None]  # seconds done, seconds in all (None: unknown)
Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Recording:
    """Sound that can be heard from the start as often as wanted."""

    blocks: Callable[[], Iterable[Tensor]]  # anew: successive (C, any t) pieces
    sample_rate: int  # Hz
    seconds: float | None = None  # None: unknown
    rounded: Callable[[Tensor], Tensor] = lambda stems: stems  # to what can be written


@dataclass(frozen=True, eq=False)
class Part:
    """One sound that was asked for, and what came of it."""

    query: Query
    verdict: judge.Verdict
    spans: Spans  # seconds in which it sounds; () = anywhere
    slot: int  # where it waits on the shelf


class Apart:
    """The parts of one recording, waiting on a shelf; together with the rest they always add up to it.

    A part that the judge did not find is silence (everything, where all but the sound was asked for), and
    what was taken for it stays in the rest.
    """

    def __init__(
        self, recording: Recording, rig: Rig, shelf: Shelf, progress: Progress | None = None
    ) -> None:
        self.recording, self.rig, self._shelf, self._progress = recording, rig, shelf, progress
        self.parts: list[Part] = []
        self.frames = 0  # samples per channel; known as soon as the recording was heard to its end
        self.chunked = Chunked(Native(rig.separator, recording.sample_rate))

    def take(self, queries: Sequence[Query]) -> list[Part]:
        """Take the sounds of `queries` out of what is left, and judge whether they were there.

        Raises:
            DeviceError: the engine ran out of memory.
            OutputError: the disk is full.
        """
        rate = self.recording.sample_rate
        tally = judge.Tally(len(queries), rate)
        loudest = judge.Loudest(len(queries)) if self.rig.ears else None
        slots = self._shelf.make_room(len(queries))
        for mixture, stems in self.chunked.stream(self.left(), queries):
            stems = self.recording.rounded(stems)
            self._shelf.write(slots, stems)
            tally.add(mixture, stems)
            if loudest is not None:
                loudest.add(mixture, _sounds(mixture, stems, queries))
        verdicts = tally.verdicts()
        if loudest is not None:
            verdicts = judge.judged(verdicts, queries, loudest, self.rig, rate)
        taken = [
            Part(query, verdict, query.spans, slot)
            for query, verdict, slot in zip(queries, verdicts, slots, strict=True)
        ]
        self.parts += taken
        return taken

    def drop(self, part: Part) -> None:
        """Put a part back into the rest, as if it had never been asked for."""
        self.parts.remove(part)
        self._shelf.drop(part.slot)

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole recording, piece by piece: mixture (C, t), and parts (Q, C, t) in their order."""
        slots = [part.slot for part in self.parts]
        gone = torch.tensor([part.verdict.silenced for part in self.parts], dtype=torch.bool)
        queries = [part.query for part in self.parts if part.verdict.silenced]
        self._shelf.rewind(slots)
        for mixture in self.recording.blocks():
            stems = (
                self._shelf.read(slots, mixture.shape[-1]) if slots else mixture.new_zeros(0, *mixture.shape)
            )
            if queries:
                stems[gone] = without_sound(mixture, queries)
            yield mixture, stems

    def left(self) -> Iterator[Tensor]:
        """Pieces of what no part has taken."""
        self.frames = 0
        for mixture, stems in self.pieces():
            yield residual(mixture, stems) if len(stems) else mixture
            self.frames += mixture.shape[-1]
            if self._progress is not None:
                self._progress(self.frames / self.recording.sample_rate, self.recording.seconds)


def _sounds(mixture: Tensor, stems: Tensor, queries: Sequence[Query]) -> Tensor:
    """The sounds themselves, also where everything but the sound was asked for."""
    if all(query.keep for query in queries):
        return stems
    keep = torch.tensor([query.keep for query in queries])[:, None, None]
    return torch.where(keep, stems, mixture - stems)


def widened(spans: Spans, margin: float, gap: float) -> Spans:
    """Spans longer by `margin` seconds on both sides; those less than `gap` seconds apart become one.

    >>> widened(((1.0, 2.0), (2.5, 3.0), (9.0, 9.5)), margin=0.5, gap=1.0)
    ((0.5, 3.5), (8.5, 10.0))
    """
    joined: list[tuple[float, float]] = []
    for start, end in sorted((max(0.0, start - margin), end + margin) for start, end in spans):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
