"""What a corpus file gives: labelled files, published mixtures, and how to mix."""

from dataclasses import dataclass
from typing import Literal

from unweave.data.manifest import Clip
from unweave.errors import UsageError

Partners = Literal["other label", "other group", "same recording"]


@dataclass(frozen=True)
class Take(Clip):
    """A clip of which more may be known than its label."""

    tags: frozenset[str] = frozenset()  # everything known to sound in it; none: the label is all

    @property
    def sounds(self) -> frozenset[str]:
        """What must not sound in its partners under the rule "other label", nor in an example of it."""
        return self.tags or frozenset({self.label})


@dataclass(frozen=True)
class Mix:
    """One mixture that a corpus itself publishes."""

    id: str
    sources: tuple[Take, ...]  # the first ones are asked for, as many as the protocol says
    snr_db: float | None = None  # first source over the others; None: at their own levels
    mixture: Take | None = None  # published sound: the other source is what it holds beside the first one


@dataclass(frozen=True)
class Found:
    """What is below a corpus's folder."""

    clips: tuple[Take, ...]
    missing: tuple[str, ...]  # files that the metadata name and that are not there
    unreadable: tuple[str, ...] = ()  # files that are there, but are not sound
    mixes: tuple[Mix, ...] = ()  # a published list, without the mixtures that need a file that lacks


@dataclass(frozen=True)
class Protocol:
    """How a corpus is mixed for evaluation."""

    origin: str  # which paper the numbers are from, and which are ours
    count: int  # mixtures; 0: the published list, whole
    partners: Partners = "other label"  # what may sound together with the first source
    sources: tuple[int, int] = (2, 2)  # fewest and most in a mixture
    asked: int = 1  # how many of them are asked for, from the first on
    snr_db: tuple[float, float] | None = (-15.0, 15.0)  # first over all others; None: at their own levels
    seconds: tuple[float, float] = (10.0, 10.0)  # shortest and longest mixture; a published one has its own
    sample_rate: int = 16_000  # Hz
    example_seconds: float = 0.0  # length of an example beside the words of each query; 0: words alone

    def __post_init__(self) -> None:
        low, high = self.sources
        if not (2 <= low <= high and 1 <= self.asked <= low):
            raise UsageError(f"a mixture wants two sources or more, one asked for; got {self}")
        if not 0 < self.seconds[0] <= self.seconds[1] or self.count < 0 or self.sample_rate < 1:
            raise UsageError(f"seconds, count and sample rate want to be positive; got {self}")
