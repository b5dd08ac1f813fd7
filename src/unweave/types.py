"""The nouns every part of Unweave speaks in, and the protocols that parts are made to fit.

Tensors are used inside, `Audio` at the edges. torch is named in annotations only: importing this
module costs nothing, so that `import unweave` and `unweave --help` stay quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from unweave.errors import AudioError, QueryError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_QUERY = 1000  # characters; the text encoder reads 256 word pieces and would drop the rest


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound at the edges: what is read from a file and written to one."""

    samples: Tensor  # (channels, time) float32, full scale = 1.0
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or not self.samples.is_floating_point():
            raise AudioError(
                f"Audio wants float samples of shape (channels, time), got "
                f"{self.samples.dtype} {tuple(self.samples.shape)}; for one channel use samples[None]"
            )
        if self.sample_rate <= 0:
            raise AudioError(f"Audio wants a sample rate in Hz above 0, got {self.sample_rate}")

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.shape[1] / self.sample_rate


@dataclass(frozen=True)
class Query:
    """What to listen for: words, an example, or both.

    >>> Query("a dog barking", spans=((1.0, 2.5),)).keep
    True
    """

    text: str = ""  # a plain name, "dog barking"
    sounds_like: str = ""  # how it sounds: frequency, timbre, envelope, rhythm
    example: Audio | None = None  # a clip of it
    not_text: str = ""  # what it must not be
    spans: tuple[tuple[float, float], ...] = ()  # seconds in which it sounds; () = anywhere
    keep: bool = True  # False: everything *but* this (removal)

    def __post_init__(self) -> None:
        if not self.text.strip() and self.example is None:
            raise QueryError("the query is empty; say what to listen for, for example 'dog barking'")
        for words in (self.text, self.not_text, self.sounds_like):
            if len(words) > LONGEST_QUERY:
                raise QueryError(
                    f"a query has at most {LONGEST_QUERY} characters, this one has {len(words)}; "
                    f"name one sound in a few words, and ask for several sounds with several queries"
                )
        for start, end in self.spans:
            if not 0 <= start < end:
                raise QueryError(
                    f"a span is (start, end) in seconds with 0 <= start < end, got {(start, end)}"
                )


@dataclass(frozen=True, eq=False)
class Example:
    """One item of data, for training and evaluation alike."""

    id: str
    mixture: Tensor  # (C, T), the sum of its sources
    sources: Tensor  # (Q, C, T), sources[i] answers queries[i]
    queries: tuple[Query, ...]
    sample_rate: int  # Hz


@dataclass(frozen=True)
class Heard:
    """A sound that was heard: a label or sentence, and when."""

    text: str
    score: float  # 0..1, how sure the listener is that it sounds there
    start: float  # seconds
    end: float  # seconds


@dataclass(frozen=True, eq=False)
class Stem:
    """One track of a separated recording."""

    query: Query | None  # None: the residual, what no query asked for
    audio: Audio
    score: float  # 0..1, how sure the engine is that the sound is there; 1 for the residual
    spans: tuple[tuple[float, float], ...] = ()  # seconds; () = anywhere


class Separator(Protocol):
    """An engine. Same order as the queries, length and gain of the mixture, same answer twice."""

    sample_rate: int  # Hz it works at

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        """(C, T) float32 at `sample_rate`, Q queries -> (Q, C, T); the mixture is left untouched."""
        ...


class QueryEncoder(Protocol):
    """Words or examples to vectors."""

    dim: int

    def encode(self, queries: Sequence[Query]) -> Tensor:
        """Q queries -> (Q, D) unit vectors."""
        ...


class Listener(Protocol):
    """Hears what is in a recording."""

    def hear(self, audio: Audio) -> list[Heard]:
        """Everything that sounds, most certain first; silence is an empty list."""
        ...
