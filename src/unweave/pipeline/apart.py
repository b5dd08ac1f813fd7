"""A recording taken apart in one or several goes: every go asks for sounds in what the earlier ones left."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

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

    def take(self, queries: Sequence[Query], least: Sequence[float] = ()) -> list[Part]:
        """Take the sounds of `queries` out of what is left, and judge whether they were there.

        Sounds that are asked for together share what they have in common. What a sound took that was not
        there is given to the others: they are asked for once more, without it.

        Args:
            queries: what to take.
            least: of each query; if its sound is less likely there it is put back, as if it had never been
                asked for. Empty: all stay, as silence.

        Raises:
            DeviceError: the engine ran out of memory.
            OutputError: the disk is full.
        """
        parts = self._ask(queries, judging=self.rig.ears is not None)
        floors = least or [0.0] * len(parts)
        gone = [
            part
            for part, floor in zip(parts, floors, strict=True)
            if part.verdict.silenced or part.verdict.score < floor
        ]
        kept = [part for part in parts if part not in gone]
        again = _sharing(gone, kept, self.chunked.window)
        anew = self._ask([part.query for part in again], judging=False) if again else []
        for old, new in zip(again, anew, strict=True):
            self._shelf.drop(old.slot)
            verdict = replace(new.verdict, presence=old.verdict.presence, least=old.verdict.least)
            parts[parts.index(old)] = replace(new, verdict=verdict)
        if least:
            for part in gone:
                self._shelf.drop(part.slot)
                parts.remove(part)
        self.parts += parts
        return parts

    def _ask(self, queries: Sequence[Query], judging: bool) -> list[Part]:
        """One pass over what is left; the parts wait on the shelf."""
        tally = judge.Tally(len(queries), self.recording.sample_rate)
        loudest = judge.Loudest(queries, self.recording.sample_rate) if judging else None
        slots = self._shelf.make_room(len(queries))
        for mixture, stems in self.chunked.stream(self.left(), queries):
            stems = self.recording.rounded(stems)
            self._shelf.write(slots, stems)
            tally.add(mixture, stems)
            if loudest is not None:
                loudest.add(mixture, _sounds(mixture, stems, queries))
        verdicts = tally.verdicts()
        if loudest is not None:
            verdicts = judge.judged(verdicts, queries, loudest, self.rig)
        return [
            Part(query, verdict, query.spans, slot)
            for query, verdict, slot in zip(queries, verdicts, slots, strict=True)
        ]

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


def _sharing(gone: Sequence[Part], kept: Sequence[Part], window: float) -> list[Part]:
    """Those of `kept` that were asked for in one window with a sound that is gone, or with one that was."""
    found: list[Part] = []
    reached = [part for part in gone if part.query.keep]
    for one in reached:  # which grows meanwhile
        near = [
            part
            for part in kept
            if part.query.keep and part not in found and _near(part.query, one.query, window)
        ]
        found += near
        reached += near
    return [part for part in kept if part in found]


def _near(one: Query, other: Query, seconds: float) -> bool:
    """Whether spans of the two are less than some seconds apart."""
    if not one.spans or not other.spans:
        return True
    return any(
        start < last + seconds and first < end + seconds
        for start, end in one.spans
        for first, last in other.spans
    )


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
