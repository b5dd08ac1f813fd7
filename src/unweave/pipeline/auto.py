"""Everything at once: hear what is there, take it out, check it, and listen again to what is left.

The first half of OpenSep (Mahmud and Marculescu, EMNLP 2024) with a listener in the place of captioner and
language model, and with two steps more: a sound that the stem does not confirm is put back, and the rest is
listened to again, because loud sounds hide quiet ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from unweave.errors import UsageError
from unweave.listen.merging import MEANS_THE_SAME
from unweave.pipeline import presence
from unweave.pipeline.apart import Apart, Part, Spans, widened
from unweave.pipeline.naming import slug
from unweave.types import Heard, Query

MARGIN = 1.0  # seconds around each span in which a sound is looked for: attacks and tails are heard late
GAP = 1.0  # seconds; spans nearer than this are asked for as one


@dataclass(frozen=True)
class Limits:
    """When to stop."""

    tracks: int = 8  # sounds; all others stay in the residual
    rounds: int = 2  # how often what is left is listened to

    def __post_init__(self) -> None:
        if self.tracks < 1 or self.rounds < 1:
            raise UsageError(
                f"the automatic mode wants room for one track and one round at least, "
                f"got {self.tracks} and {self.rounds}"
            )


@dataclass(frozen=True)
class Guess:
    """A sound that may be in a recording."""

    name: str
    score: float  # 0..1, the listener's
    spans: Spans  # seconds

    @property
    def query(self) -> Query:
        """The question whether it is, and where it is looked for."""
        return Query(self.name, spans=widened(self.spans, MARGIN, GAP))


def split(apart: Apart, limits: Limits) -> list[str]:
    """Take everything out of a recording that its listener hears in it, the most certain sound first.

    Stems that are most likely not what they are called are put back. No two have the same name.

    Args:
        apart: with ears; nothing taken yet.
        limits: when to stop.

    Returns:
        What is to be said to people: that nothing was found, or what was left for want of tracks.

    Raises:
        UsageError: there are no ears.
        DeviceError: the engine ran out of memory.
        OutputError: the disk is full.
    """
    ears, least = apart.rig.ears, (apart.rig.presence or presence.shipped()).drop
    if ears is None:
        raise UsageError(
            "finding the sounds of a recording takes a listener; name the model instead of handing in an "
            "engine, or name the sounds"
        )
    tried: list[str] = []
    crowd: list[Guess] = []
    for _ in range(limits.rounds):
        impression = ears.follow(apart.left(), apart.recording.sample_rate)
        found = guesses(ears.heard(impression), tried, ears.alike)
        room = limits.tracks - len(apart.parts)
        chosen, crowd = found[:room], found[room:]
        if not chosen:
            break
        tried += [guess.name for guess in chosen]
        for part, guess in zip(apart.take([guess.query for guess in chosen]), chosen, strict=True):
            _settle(apart, part, guess, least)
    apart.parts.sort(key=lambda part: -part.verdict.score)
    return _said(apart, crowd, limits)


def guesses(heard: Sequence[Heard], tried: Sequence[str], alike: Callable[[str, str], float]) -> list[Guess]:
    """What was heard, by sound and most certain first.

    Names that mean the same are one, under the most certain name, and so are names that would give the same
    file name; what was tried before is left out.
    """
    found: dict[str, Guess] = {}
    for one in sorted(heard, key=lambda one: -one.score):
        name = " ".join(one.text.split())
        if any(_same(name, old, alike) for old in tried):
            continue
        known = next((old for old in found if _same(name, old, alike)), name)
        before = found.get(known, Guess(known, one.score, ()))
        found[known] = replace(before, spans=widened((*before.spans, (one.start, one.end)), 0.0, 0.0))
    return list(found.values())


def _same(one: str, other: str, alike: Callable[[str, str], float]) -> bool:
    return slug(one) == slug(other) or alike(one, other) >= MEANS_THE_SAME


def _settle(apart: Apart, part: Part, guess: Guess, least: float) -> None:
    """Keep a part as what it was taken for, or put it back."""
    if part.verdict.score < least:
        apart.drop(part)
    else:
        apart.parts[apart.parts.index(part)] = replace(part, spans=guess.spans)


def _said(apart: Apart, crowd: Sequence[Guess], limits: Limits) -> list[str]:
    if crowd:
        names = ", ".join(guess.name for guess in crowd[:5]) + (", ..." if len(crowd) > 5 else "")
        return [
            f"{len(crowd)} more sounds were heard than the limit of {limits.tracks} tracks allows, and are "
            f"in the residual: {names}"
        ]
    if not apart.parts:
        return ["no sound was recognised; the residual is the whole recording"]
    return []
