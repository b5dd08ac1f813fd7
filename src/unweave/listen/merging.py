"""From names that may sound in pieces of a recording to few names, each with the stretches of its sound."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unweave.data.mixtures import Labels, known_labels
from unweave.language.knowledge import plainly

MEANS_THE_SAME = 0.6  # least cosine of two names in the text space that count as one
SOUNDS_THE_SAME = 0.8  # least cosine of two names as the listener reads them
TRAINED = 0.85  # other words for a trained label come before it if they are right so much more often
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
    """A name with all its stretches: first frame, the one after the last, and how sure."""

    name: int
    stretches: list[tuple[int, int, float]]


class Sounding:
    """Which of K names could be taken for one another."""

    def __init__(self, names: Sequence[str], meanings: Tensor, directions: Tensor) -> None:
        """(K, 384) unit vectors of the names; (K, D), what the listener holds frames against."""
        self.names = names
        directions = torch.nn.functional.normalize(directions.cpu(), dim=-1)
        self.means = meanings @ meanings.T >= MEANS_THE_SAME  # (K, K) bool: one would be right for the other
        self._like = self.means | (directions @ directions.T >= SOUNDS_THE_SAME)
        self.plain = [plainly(name) for name in names]

    def like(self, name: int, others: Sequence[int]) -> int | None:
        """The first of `others` that should not be given to a sound beside `name`."""
        for other in others:
            if self._like[name, other] or (self.plain[name], self.plain[other]) in _overlaps():
                return other
        return None


def grouped(sure: Sequence[float], alike: Sounding) -> list[tuple[int, float]]:
    """One name for each group of names that could be taken for one another, and how sure it is right.

    Whether a saxophone is an alto or a tenor may be open where a saxophone it is. So the name that comes
    first is the one most probably right: the chances of the trained labels that it would be right for, which
    exclude each other, add up. Those of other names do not, as many of them mean the same.

    Args:
        sure: chance of each of the names of `alike`.
    """
    chances = torch.tensor(sure, dtype=torch.float64)
    labels = torch.tensor([plain in _labels() for plain in alike.plain], dtype=torch.float64)
    right_for = alike.means.double() * labels
    free = torch.ones_like(chances)
    found = []
    while free.any():
        total = torch.maximum(chances, (right_for @ (chances * free)).clamp(max=1.0))
        rank = (total * (1 - (1 - TRAINED) * (1 - labels))).tolist()
        # Of names that are as probably right the likeliest itself; rounding must not decide.
        best = max(free.nonzero()[:, 0].tolist(), key=lambda name: (round(rank[name], 6), sure[name], -name))
        found.append((best, float(total[best])))
        for name in free.nonzero()[:, 0].tolist():
            if name == best or alike.like(name, [best]) is not None:
                free[name] = 0
    return found


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
        leader = alike.like(name, leaders)
        if leader is None:
            leaders.append(name)
        leader_of[name] = name if leader is None else leader
    frames: dict[int, dict[int, float]] = {name: {} for name in leaders}
    for one in found:
        mine = frames[leader_of[one.name]]
        for frame in (one.active.nonzero()[:, 0] + one.first).tolist():
            mine[frame] = max(mine.get(frame, 0.0), one.score)
    return [Chosen(name, _stretches(sorted(frames[name].items()))) for name in leaders]


@functools.cache
def _labels() -> frozenset[str]:
    """The trained labels, as `plainly` writes them."""
    return frozenset(map(plainly, known_labels()))


@functools.cache
def _overlaps() -> frozenset[tuple[str, str]]:
    """Pairs of trained labels, as `plainly` writes them, of which one may hold the other."""
    labels = Labels(known_labels())
    names = [plainly(name) for name in labels.names]
    return frozenset((names[one], names[other]) for one, other in labels.overlap.nonzero().tolist())


def _stretches(frames: Sequence[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Frames in order, and how sure each is, as stretches; short gaps are bridged.

    >>> _stretches([(3, 0.5), (4, 0.5), (6, 0.7), (40, 0.2)])
    [(3, 7, 0.7), (40, 41, 0.2)]
    """
    found: list[tuple[int, int, float]] = []
    for frame, sure in frames:
        if found and frame - found[-1][1] <= GAP:
            found[-1] = (found[-1][0], frame + 1, max(found[-1][2], sure))
        else:
            found.append((frame, frame + 1, sure))
    return found
