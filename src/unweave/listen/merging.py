"""From names that may sound in pieces of a recording to few names, each with the stretches of its sound."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unweave.data.mixtures import Labels, known_labels
from unweave.language.knowledge import plainly

MEANS_THE_SAME = 0.6  # least cosine of two names in the text space that count as one
SOUNDS_THE_SAME = 0.8  # least cosine of two names as the listener reads them
GAP = 8  # frames of silence, half a second, that do not end a stretch


@dataclass(frozen=True, eq=False)
class Found:
    """A name that sounds in a piece."""

    name: int  # which
    score: float  # 0..1
    first: int  # frame at which the piece begins
    active: Tensor  # (n,) bool, its frames in which the name sounds


@dataclass(eq=False)
class Chosen:
    """A name with all its stretches."""

    name: int
    score: float
    stretches: list[tuple[int, int]] = field(default_factory=list)  # frames, the end not included


class Sounding:
    """Which names could be taken for one another."""

    def __init__(self, names: Sequence[str], meanings: Tensor, directions: Tensor) -> None:
        self.names = names
        self.meanings = meanings  # (K, 384) unit vectors
        self.directions = torch.nn.functional.normalize(directions.cpu(), dim=-1)  # (K, D)
        self._overlap = _overlaps()

    def like(self, name: int, other: int) -> bool:
        """Whether only one of the two names should be given to a sound."""
        one, two = plainly(self.names[name]), plainly(self.names[other])
        return (
            float(self.meanings[name] @ self.meanings[other]) >= MEANS_THE_SAME
            or float(self.directions[name] @ self.directions[other]) >= SOUNDS_THE_SAME
            or (one, two) in self._overlap
        )


def chosen(found: Iterable[Found], alike: Sounding) -> list[Chosen]:
    """The fewest names that account for all that was found.

    Names with the most evidence in the whole recording come first; what could be taken for one of them is
    added to its time and not named again.
    """
    found = list(found)
    evidence: dict[int, float] = {}
    for one in found:
        evidence[one.name] = evidence.get(one.name, 0.0) + one.score
    leaders: list[int] = []
    leader_of: dict[int, int] = {}
    for name in sorted(evidence, key=lambda name: (-evidence[name], name)):
        leader = next((one for one in leaders if alike.like(one, name)), None)
        if leader is None:
            leaders.append(name)
        leader_of[name] = name if leader is None else leader
    result = {name: Chosen(name, 0.0) for name in leaders}
    frames: dict[int, list[int]] = {name: [] for name in leaders}
    for one in found:
        leader = leader_of[one.name]
        result[leader].score = max(result[leader].score, one.score)
        frames[leader] += (one.active.nonzero()[:, 0] + one.first).tolist()
    for name, chosen_one in result.items():
        chosen_one.stretches = _stretches(sorted(set(frames[name])))
    return list(result.values())


@functools.cache
def _overlaps() -> frozenset[tuple[str, str]]:
    """Pairs of trained labels, as `plainly` writes them, of which one may hold the other."""
    labels = Labels(known_labels())
    names = [plainly(name) for name in labels.names]
    return frozenset((names[one], names[other]) for one, other in labels.overlap.nonzero().tolist())


def _stretches(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted frames as stretches; short gaps are bridged.

    >>> _stretches([3, 4, 6, 40])
    [(3, 7), (40, 41)]
    """
    found: list[tuple[int, int]] = []
    for frame in frames:
        if found and frame - found[-1][1] <= GAP:
            found[-1] = (found[-1][0], frame + 1)
        else:
            found.append((frame, frame + 1))
    return found
