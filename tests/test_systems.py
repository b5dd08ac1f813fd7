"""Oracles and baselines: what is possible and what is free, on a known mixture."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate import systems
from unweave.evaluate.metrics.signal import sdr_improvement, si_sdr_improvement
from unweave.signal.mixing import mix_at_snr
from unweave.types import Example, Query

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def example() -> Example:
    """A dog in the rain, equally loud, in stereo; the dog is on the left."""
    dog, rain = (
        torch.from_numpy(soundfile.read(DATA / name, dtype="float32", frames=64_000)[0])
        for name in ("dog-barking.flac", "rain.flac")
    )
    _, rain = mix_at_snr(dog, rain, snr_db=0)
    sources = torch.stack([torch.stack([dog, 0.5 * dog]), torch.stack([0.5 * rain, rain])]) / 2
    return Example("dog in rain", sources.sum(0), sources, (Query("dog"), Query("rain")), 32_000)


def improvement(estimates: Tensor, example: Example) -> Tensor:
    mixture = example.mixture.expand_as(example.sources)
    return si_sdr_improvement(estimates, example.sources, mixture)


def test_nothing_improves_nothing(example: Example) -> None:
    estimates = systems.nothing(example)
    assert estimates.shape == example.sources.shape
    assert (improvement(estimates, example) == 0).all()


def test_half_is_free_in_sdr_and_worthless_in_si_sdr(example: Example) -> None:
    estimates = systems.half(example)
    assert improvement(estimates, example).abs().max() < 1e-9
    mono = Example(
        "mono", *(torch.stack([s]) for s in (example.mixture[0], example.sources[0, :1])), (), 32_000
    )
    assert systems.half(mono).shape == (1, 1, 64_000)
    gained = sdr_improvement(estimates, example.sources, example.mixture.expand_as(example.sources))
    # Where the sound is the quieter one, leaving half of everything away pays.
    assert gained[0, 1] > 5
    assert gained[1, 0] > 5


def test_ideal_ratio_mask_bounds_mask_engines(example: Example) -> None:
    gained = improvement(systems.ideal_ratio_mask(example), example)
    assert gained.shape == (2, 2)
    assert gained.min() > 6


def test_ideal_ratio_mask_of_parts_takes_no_more_than_the_mixture(example: Example) -> None:
    """A sound that no query asks for belongs to the rest, not to the sources."""
    only_dog = Example(
        example.id, example.mixture, example.sources[:1], example.queries[:1], example.sample_rate
    )
    assert torch.allclose(
        systems.ideal_ratio_mask(only_dog)[0], systems.ideal_ratio_mask(example)[0], atol=1e-5
    )


def test_examples_without_queries(example: Example) -> None:
    empty = Example("empty", example.mixture, example.sources[:0], (), example.sample_rate)
    for system in (systems.nothing, systems.half, systems.ideal_ratio_mask):
        assert system(empty).shape == (0, 2, 64_000)


class FirstChannel:
    """An engine whose answer is known: the first channel in every channel, louder for later queries."""

    sample_rate = 32_000

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        return torch.stack([mixture[:1].expand_as(mixture) * (i + 1) for i, _ in enumerate(queries)])


def test_an_engine_is_a_system(example: Example) -> None:
    estimates = systems.engine(FirstChannel())(example)
    assert torch.equal(estimates[0, 1], example.mixture[0])
    assert torch.equal(estimates[1, 0], 2 * example.mixture[0])


def test_an_engine_is_not_resampled_in_secret(example: Example) -> None:
    faster = Example(example.id, example.mixture, example.sources, example.queries, 44_100)
    with pytest.raises(UsageError, match="is at 44100 Hz, the engine works at 32000 Hz"):
        systems.engine(FirstChannel())(faster)
