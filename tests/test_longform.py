"""Windows of a long recording: nothing lost, nothing doubled, no edge heard, little held."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.pipeline.longform import Chunked
from unweave.types import Query

RATE = 1000
ANYTHING = [Query("anything")]


class Identity:
    """Everything belongs to every query."""

    sample_rate = RATE

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[Query, ...]]] = []

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        self.asked.append((mixture.shape[-1], tuple(queries)))
        return mixture.expand(len(queries), *mixture.shape).clone()


class Smooth:
    """A centred mean over 0.4 s: every answer depends on 0.2 s of neighbours on either side."""

    sample_rate = RATE

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        kernel = torch.full((1, 1, 401), 1 / 401)
        smooth = torch.nn.functional.conv1d(mixture[:, None], kernel, padding=200)[:, 0]
        return smooth.expand(len(queries), *mixture.shape).clone()


class Normalise:
    """A gain that depends on all it hears: every window is answered at its own level."""

    sample_rate = RATE

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        return (mixture / mixture.square().mean().sqrt()).expand(len(queries), *mixture.shape).clone()


class Gate:
    """Each query sounds in its spans and nowhere else."""

    sample_rate = RATE

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        stems = torch.zeros(len(queries), *mixture.shape)
        for stem, query in zip(stems, queries, strict=True):
            for start, end in query.spans:
                heard = slice(round(start * RATE), round(end * RATE))
                stem[:, heard] = mixture[:, heard]
        return stems


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [0, 1, 1023, 5000, 5100, 10_000, 10_001, 17_499, 17_500, 17_501, 63_210])
@pytest.mark.parametrize(
    "settings", [{}, {"window": 2.0, "context": 0.5, "fade": 0.5}, {"context": 0, "fade": 0}]
)
def test_identity_comes_through_exactly(length, settings):
    mixture = noise(2, length)
    stems = Chunked(Identity(), **settings).separate(mixture, [*ANYTHING, Query("else")])
    assert stems.shape == (2, 2, length)
    assert torch.equal(stems, mixture.expand(2, 2, length))


def test_pieces_cover_the_recording_once_whatever_the_blocks():
    mixture = noise(1, 31_234)
    whole = Chunked(Smooth(), window=4.0).separate(mixture, ANYTHING)
    for size in (1, 777, 4000, 12_001):
        pieces = list(Chunked(Smooth(), window=4.0).stream(mixture.split(size, dim=1), ANYTHING))
        assert torch.equal(torch.cat([heard for heard, _ in pieces], dim=1), mixture)
        assert torch.equal(torch.cat([stems for _, stems in pieces], dim=2), whole)


def test_windows_hear_their_real_neighbours():
    """With as much context as the engine's own reach, cutting into windows changes nothing."""
    mixture = noise(2, 40_000)
    whole = Smooth().separate(mixture, ANYTHING)
    chunked = Chunked(Smooth(), window=3.0, context=0.2, fade=0.1).separate(mixture, ANYTHING)
    assert (chunked - whole).abs().max() < 1e-6
    blind = Chunked(Smooth(), window=3.0, context=0.0, fade=0.1).separate(mixture, ANYTHING)
    assert (blind - whole).abs().max() > 1e-3, "this engine does need context"


def test_a_seam_is_a_slope():
    """Levels 1 and 4 are both answered at level 1 or near; the fade spreads the difference out."""
    mixture = torch.ones(1, 40_000)
    mixture[:, 20_000:] = 4.0
    stems = Chunked(Normalise(), window=4.0, context=0.5, fade=0.5).separate(mixture, ANYTHING)[0, 0]
    gain = stems / mixture[0]
    steps = gain.diff().abs()
    assert gain.max() - gain.min() > 0.5, "windows do differ"
    # The steepest a raised cosine of 500 samples gets is pi / 2 / 500 of the difference.
    assert steps.max() <= 1.01 * torch.pi / 2 / 500 * (gain.max() - gain.min())


def test_the_last_window_is_as_long_as_the_others():
    identity = Identity()
    Chunked(identity, window=4.0, context=0.5, fade=0.5).separate(noise(1, 13_337), ANYTHING)
    assert [length for length, _ in identity.asked] == [4000] * 5


def test_spans_are_seconds_of_the_recording():
    mixture = noise(1, 40_000) + 3
    queries = [Query("a", spans=((0.5, 1.5), (17.25, 29.125))), Query("b", spans=((39.0, 50.0),))]
    whole = Gate().separate(mixture, queries)
    chunked = Chunked(Gate(), window=4.0, context=0.5, fade=0.5).separate(mixture, queries)
    assert torch.equal(chunked, whole)


def test_the_engine_is_asked_only_where_a_query_can_sound():
    identity = Identity()
    mixture = noise(1, 40_000)
    queries = [Query("a", spans=((0.5, 1.5),)), Query("b", spans=((30.0, 31.0),), keep=False)]
    stems = Chunked(identity, window=4.0, context=0.5, fade=0.5).separate(mixture, queries)
    texts = ["".join(query.text for query in asked) for _, asked in identity.asked]
    assert texts == ["a", "b", "b"], "windows that neither touches are not asked about"
    assert torch.equal(stems[1], mixture), "removing nothing leaves everything"
    assert not stems[0, :, 10_000:].any()


def test_silent_windows_are_skipped():
    identity = Identity()
    mixture = torch.zeros(2, 60_000)
    mixture[:, 27_000:27_100] = noise(2, 100)
    stems = Chunked(identity).separate(mixture, [Query("a"), Query("b", keep=False)])
    assert len(identity.asked) == 1
    assert torch.equal(stems, mixture.expand(2, 2, 60_000))


def test_little_is_held_however_long_it_goes_on():
    ahead = 0

    def endless() -> Iterator[Tensor]:
        nonlocal ahead
        while True:
            ahead += 500
            yield torch.ones(1, 500)

    stream = Chunked(Identity(), window=4.0).stream(endless(), ANYTHING)
    for _, (heard, _) in zip(range(200), stream, strict=False):
        ahead -= heard.shape[-1]
        assert ahead <= 2 * 4000


def test_the_mixture_is_left_untouched():
    mixture = noise(1, 25_000)
    before = mixture.clone()
    Chunked(Normalise()).separate(mixture, ANYTHING)
    assert torch.equal(mixture, before)


def test_a_window_without_room_is_refused():
    with pytest.raises(UsageError, match="longer than 3"):
        Chunked(Identity(), window=2.0, context=1.0, fade=0.5)
