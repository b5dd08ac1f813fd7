"""A sentence composed from what was heard, offline: "A dog barks while rain falls; later a car passes."

Events in the order in which they begin; what sounds at the same time is joined by "while", what comes after
by "then" or "later". The same events give the same sentence, and `unweave.language.parse` finds the sounds
in it again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unweave.listen.phrases import clause
from unweave.types import Heard

MOST = 6  # sounds in a caption
TOGETHER = 0.5  # share of the shorter one's time in which two sounds overlap, to be called simultaneous
SOON = 5.0  # seconds of pause up to which what follows comes "then", and beyond which "later"
GROUPS = 3  # of simultaneous sounds in one sentence


@dataclass(frozen=True)
class _Event:
    """One sound and all its times."""

    told: str  # a clause
    score: float  # the best of its spans
    spans: tuple[tuple[float, float], ...]  # seconds, in order

    @property
    def start(self) -> float:
        return self.spans[0][0]

    @property
    def seconds(self) -> float:
        return sum(end - start for start, end in self.spans)


def caption(heard: Iterable[Heard], most: int = MOST) -> str:
    """A sentence or two about the `most` sounds that are most certain; "" where nothing was heard.

    >>> caption([Heard("rain", 0.9, 0, 20), Heard("dog barking", 0.8, 0.5, 3), Heard("car", 0.7, 15, 20)])
    'Rain falls while a dog barks; later a car passes.'
    """
    groups = _groups(sorted(_events(heard)[:most], key=lambda event: (event.start, -event.score, event.told)))
    parts = [_together(group) for group in groups]
    for place in range(1, len(parts)):
        parts[place] = f"{_when(groups[place - 1], groups[place][0])} {parts[place]}"
    sentences = ["; ".join(parts[start : start + GROUPS]) for start in range(0, len(parts), GROUPS)]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)


def _events(heard: Iterable[Heard]) -> list[_Event]:
    """Most certain first; names that make the same clause are one event."""
    found: dict[str, list[Heard]] = {}
    for one in heard:
        found.setdefault(clause(one.text), []).append(one)
    events = [
        _Event(told, max(one.score for one in times), tuple(sorted((one.start, one.end) for one in times)))
        for told, times in found.items()
    ]
    return sorted(events, key=lambda event: (-event.score, event.start, event.told))


def _groups(events: Sequence[_Event]) -> list[list[_Event]]:
    """Events in order of their start, those together that sound at the same time as all others of a group."""
    groups: list[list[_Event]] = []
    for event in events:
        if groups and all(_simultaneous(event, other) for other in groups[-1]):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def _simultaneous(one: _Event, other: _Event) -> bool:
    shared = sum(
        max(0.0, min(end, other_end) - max(start, other_start))
        for start, end in one.spans
        for other_start, other_end in other.spans
    )
    return shared > 0 and shared >= TOGETHER * min(one.seconds, other.seconds)


def _together(group: Sequence[_Event]) -> str:
    first, *others = [event.told for event in group]
    if not others:
        return first
    return f"{first} while {' and '.join([', '.join(others[:-1]), others[-1]] if others[1:] else others)}"


def _when(before: Sequence[_Event], event: _Event) -> str:
    """ "then" or "later", by the pause since the last sound that ended, or began and goes on."""
    ended = [end for other in before for _, end in other.spans if end <= event.start]
    since = max(ended) if ended else max(other.start for other in before)
    return "then" if event.start - since <= SOON else "later"
