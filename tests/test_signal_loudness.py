"""Loudness against published numbers: the sine of BS.1770, the signals of EBU Tech 3341."""

import math
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import soxr
import torch

from unweave.errors import UsageError
from unweave.signal.loudness import integrated_loudness

DATA = Path(__file__).parent / "data"
RATE = 48_000


def sine(parts: list[tuple[float, float]], frequency: float = 1000, rate: int = RATE) -> torch.Tensor:
    """(dBFS of the peak, seconds) after each other -> (T,)."""
    gains = torch.cat([torch.full((round(seconds * rate),), 10 ** (level / 20)) for level, seconds in parts])
    phase = torch.arange(len(gains), dtype=torch.float64) * (2 * torch.pi * frequency / rate)
    return (gains * phase.sin()).float()


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_full_scale_sine_at_997_hz_is_minus_3_01(rate: int) -> None:
    tone = sine([(0, 5)], frequency=997, rate=rate)
    assert integrated_loudness(tone[None], rate) == pytest.approx(-3.01, abs=0.005)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(-23, 20)], -23),
        ([(-33, 20)], -33),
        ([(-36, 10), (-23, 60), (-36, 10)], -23),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23),
    ],
)
def test_ebu_tech_3341_stereo_cases(parts: list[tuple[float, float]], expected: float) -> None:
    """Cases 1 to 5 of table 1; the tolerance is theirs."""
    tone = sine(parts)
    assert integrated_loudness(tone.expand(2, -1), RATE) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("bass", [False, True])
def test_ebu_tech_3341_surround_case(bass: bool) -> None:
    """Case 6, 5.0; and as 5.1, where a loud bass channel must not count."""
    left, centre, behind = (sine([(level, 20)]) for level in (-28, -24, -30))
    channels = [left, left, centre, *([sine([(-3, 20)])] if bass else []), behind, behind]
    assert integrated_loudness(torch.stack(channels), RATE) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("name", ["speech", "dog-barking", "rain"])
def test_recordings_agree_with_pyloudnorm(name: str, rate: int) -> None:
    samples, recorded = soundfile.read(DATA / f"{name}.flac", dtype="float64")
    samples = soxr.resample(np.stack([samples, 0.3 * samples[::-1]], axis=1), recorded, rate)
    # DeMan is the analogue prototype of the standard's own coefficients; pyloudnorm's default is coarser.
    theirs = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(samples)
    assert integrated_loudness(torch.from_numpy(samples.T), rate) == pytest.approx(theirs, abs=0.03)


def test_the_rate_does_not_matter() -> None:
    samples = soundfile.read(DATA / "speech.flac", dtype="float64")[0]
    at_home = integrated_loudness(torch.from_numpy(samples)[None], 32_000)
    for rate in (48_000, 96_000):
        other = torch.from_numpy(soxr.resample(samples, 32_000, rate))[None]
        assert integrated_loudness(other, rate) == pytest.approx(at_home, abs=0.005)


def test_a_gain_moves_loudness_by_as_much() -> None:
    samples = torch.from_numpy(soundfile.read(DATA / "speech.flac", dtype="float32")[0])[None]
    assert integrated_loudness(samples / 10, 32_000) == pytest.approx(
        integrated_loudness(samples, 32_000) - 20, abs=1e-3
    )


def test_silence_and_nothing() -> None:
    assert integrated_loudness(torch.zeros(2, RATE), RATE) == -math.inf
    assert integrated_loudness(torch.zeros(2, 0), RATE) == -math.inf
    assert integrated_loudness(sine([(-90, 2)])[None], RATE) == -math.inf


def test_less_than_one_block_is_one_block() -> None:
    assert integrated_loudness(sine([(-20, 0.3)])[None], RATE) == pytest.approx(-23, abs=0.1)
    assert math.isfinite(integrated_loudness(torch.ones(1, 1), RATE))


def test_unknown_layouts_are_refused() -> None:
    with pytest.raises(UsageError, match="mix down to stereo"):
        integrated_loudness(torch.zeros(7, RATE), RATE)
