"""Rates: length, place, level, and nothing folded back."""

import pytest
import torch

from unweave.audio import resample
from unweave.errors import UsageError


def sine(frequency: float, rate: int, frames: int) -> torch.Tensor:
    return (2 * torch.pi * frequency * torch.arange(frames, dtype=torch.float64) / rate).sin().float()


@pytest.mark.parametrize(
    ("start", "end"), [(44_100, 32_000), (8_000, 192_000), (192_000, 8_000), (48_000, 44_100)]
)
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 1_000, 44_101])
def test_length_is_rounded_to_the_nearest(start, end, frames):
    exact = frames * end / start
    made = resample(torch.ones(2, frames), start, end)
    assert made.shape[0] == 2
    assert abs(made.shape[1] - exact) <= 0.5


def test_halves_round_up():
    assert resample(torch.zeros(1, 3), 16_000, 8_000).shape == (1, 2)
    assert resample(torch.zeros(1, 1), 16_000, 8_000).shape == (1, 1)


@pytest.mark.parametrize(
    ("start", "end"), [(44_100, 32_000), (32_000, 44_100), (16_000, 48_000), (192_000, 8_000)]
)
def test_no_delay_and_no_change_of_level(start, end):
    """A tone comes out as the same tone, sampled at the new times; the ends, where it starts hard, aside."""
    made = resample(sine(1_000, start, start), start, end)
    error = (made - sine(1_000, end, end))[end // 10 : -end // 10]
    assert error.abs().max() < 1e-5


def test_what_the_new_rate_cannot_hold_is_gone():
    made = resample(sine(12_000, 44_100, 44_100), 44_100, 16_000)
    assert made[1_600:-1_600].abs().max() < 1e-4


def test_same_rate_is_the_same_tensor():
    samples = torch.ones(2, 5)
    assert resample(samples, 48_000, 48_000) is samples


def test_leading_dimensions_and_type_are_kept():
    samples = torch.randn(2, 3, 441, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = resample(samples, 44_100, 32_000)
    assert made.shape == (2, 3, 320)
    assert made.dtype == torch.float64
    assert torch.equal(made[1, 2], resample(samples[1, 2], 44_100, 32_000))
    assert resample(samples.half(), 44_100, 32_000).dtype == torch.float16


def test_input_is_left_alone():
    samples = sine(440, 44_100, 1_000)
    before = samples.clone()
    resample(samples, 44_100, 32_000)
    assert torch.equal(samples, before)


def test_rates_are_checked():
    with pytest.raises(UsageError, match="above 0, got 0 and 8000"):
        resample(torch.ones(1, 3), 0, 8_000)
