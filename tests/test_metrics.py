"""Metrics against other implementations, against geometry, and where they mean nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import (
    attenuation_db,
    sdr,
    sdr_improvement,
    si_sdr,
    si_sdr_improvement,
)
from unweave.signal.mixing import mix_at_snr

DATA = Path(__file__).parent / "data"
SILENCE = torch.zeros(100)
NOISE = torch.randn(100, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, Tensor]:
    dog, rain = (
        torch.from_numpy(soundfile.read(DATA / name, dtype="float32", frames=64_000)[0])
        for name in ("dog-barking.flac", "rain.flac")
    )
    return dog, rain


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 25.0, 80.0])
def test_agrees_with_torchmetrics(clips: tuple[Tensor, Tensor], snr_db: float) -> None:
    from torchmetrics.functional.audio import (
        scale_invariant_signal_distortion_ratio,
        signal_noise_ratio,
    )

    dog, rain = (clip.double() for clip in clips)
    mixture, _ = mix_at_snr(dog, rain, snr_db)
    estimate = 0.7 * mixture
    theirs = scale_invariant_signal_distortion_ratio(estimate, dog, zero_mean=True)
    assert si_sdr(estimate, dog).item() == pytest.approx(theirs.item(), abs=1e-3)
    assert sdr(estimate, dog).item() == pytest.approx(signal_noise_ratio(estimate, dog).item(), abs=1e-3)


def test_si_sdr_is_the_angle_between_the_two(clips: tuple[Tensor, Tensor]) -> None:
    """With c the correlation, the ratio is c^2 to 1 - c^2, whatever gain and offset are."""
    dog, rain = clips
    mixture, _ = mix_at_snr(dog, rain, 3)
    c = np.corrcoef(mixture.double().numpy(), dog.double().numpy())[0, 1]
    expected = 10 * math.log10(c**2 / (1 - c**2))
    assert si_sdr(mixture, dog).item() == pytest.approx(expected, abs=1e-6)
    assert si_sdr(-8 * mixture + 0.5, dog).item() == pytest.approx(expected, abs=1e-3)


def test_sdr_of_a_mixture_is_its_snr(clips: tuple[Tensor, Tensor]) -> None:
    dog, rain = clips
    mixture, _ = mix_at_snr(dog, rain, 7)
    assert sdr(mixture, dog).item() == pytest.approx(7, abs=1e-3)
    assert sdr(dog / 2, dog).item() == pytest.approx(6.0206, abs=1e-3)  # a gain error counts


def test_each_signal_gets_its_own_number(clips: tuple[Tensor, Tensor]) -> None:
    dog, rain = clips
    estimates = torch.stack([dog + 0.1 * rain, dog + rain])[:, None].expand(2, 3, -1)
    references = dog.expand_as(estimates)
    for metric in (sdr, si_sdr, attenuation_db):
        together = metric(estimates, references)
        assert together.shape == (2, 3)
        assert together[1, 2].item() == pytest.approx(metric(estimates[1, 2], dog).item())


def test_improvements_start_at_zero(clips: tuple[Tensor, Tensor]) -> None:
    dog, rain = clips
    mixture, rain = mix_at_snr(dog, rain, -2)
    assert sdr_improvement(mixture, dog, mixture).item() == 0
    assert si_sdr_improvement(mixture, dog, mixture).item() == 0
    # A tenth of the rain left is 20 dB better.
    assert sdr_improvement(dog + 0.1 * rain, dog, mixture).item() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    ("metric", "estimate", "reference", "expected"),
    [
        (sdr, NOISE, NOISE, math.inf),
        (sdr, SILENCE, NOISE, 0.0),
        (sdr, NOISE, SILENCE, math.nan),
        (sdr, SILENCE, SILENCE, math.nan),
        (si_sdr, NOISE, NOISE, math.inf),
        (si_sdr, SILENCE, NOISE, -math.inf),
        (si_sdr, NOISE, SILENCE, math.nan),
        (si_sdr, SILENCE, SILENCE, math.nan),
        (si_sdr, NOISE, SILENCE + 0.1, math.nan),  # a constant is silent
        (si_sdr, SILENCE + 0.1, NOISE, -math.inf),
        (attenuation_db, NOISE, NOISE, 0.0),
        (attenuation_db, SILENCE, NOISE, math.inf),
        (attenuation_db, NOISE, SILENCE, math.nan),
        (attenuation_db, SILENCE, SILENCE, math.nan),
    ],
)
def test_degenerate_signals(metric, estimate: Tensor, reference: Tensor, expected: float) -> None:
    assert metric(estimate, reference).item() == pytest.approx(expected, nan_ok=True)


def test_a_constant_whose_mean_is_rounded_is_silent_too() -> None:
    constant = torch.full((999,), 0.1, dtype=torch.float64)
    assert (constant != constant.mean()).all()
    noise = torch.randn(999, generator=torch.Generator().manual_seed(0))
    assert si_sdr(noise, constant).isnan()
    assert si_sdr(constant, noise).item() == -math.inf


def test_a_perfect_estimate_at_another_level_is_nearly_without_bound() -> None:
    assert si_sdr(3 * NOISE, NOISE).item() > 130  # what float32 samples allow


def test_shapes_must_agree() -> None:
    for metric in (sdr, si_sdr, attenuation_db):
        with pytest.raises(UsageError, match=r"got \(1, 4\) and \(4,\)"):
            metric(torch.ones(1, 4), torch.ones(4))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_no_numbers_are_refused_and_named(value: float) -> None:
    broken = torch.ones(3, 5)
    broken[2, 1] = value
    message = r"the {} should hold finite samples, got 1 .* first at index \(2, 1\)"
    for metric in (sdr, si_sdr):
        with pytest.raises(UsageError, match=message.format("estimate")):
            metric(broken, torch.ones(3, 5))
        with pytest.raises(UsageError, match=message.format("reference")):
            metric(torch.ones(3, 5), broken)
    for improvement in (sdr_improvement, si_sdr_improvement):
        with pytest.raises(UsageError, match=message.format("mixture")):
            improvement(torch.ones(3, 5), torch.ones(3, 5), broken)
    with pytest.raises(UsageError, match=message.format("mixture")):
        attenuation_db(torch.ones(3, 5), broken)


def test_infinities_that_cancel_and_sums_that_overflow_are_told_apart() -> None:
    with pytest.raises(UsageError, match="got 2 that are NaN or infinite"):
        sdr(torch.tensor([math.inf, -math.inf]), torch.ones(2))
    loud = torch.full((4,), 3e38)  # finite, and so is its power in float64
    assert sdr(loud / 2, loud).item() == pytest.approx(6.0206, abs=1e-3)


def test_agrees_with_fast_bss_eval(clips: tuple[Tensor, Tensor]) -> None:
    import fast_bss_eval

    dog, rain = (clip.double() for clip in clips)
    theirs = fast_bss_eval.si_sdr((dog)[None], (dog + 0.2 * rain + 0.1)[None], zero_mean=True)
    assert si_sdr(dog + 0.2 * rain + 0.1, dog).item() == pytest.approx(theirs.item(), abs=1e-3)


def test_an_error_140_db_down_is_still_measured(clips: tuple[Tensor, Tensor]) -> None:
    """Powers that are subtracted would leave rounding here; the error is formed sample by sample."""
    dog, rain = (clip.double() - clip.double().mean() for clip in clips)
    rain = rain - dog * (rain @ dog) / (dog @ dog)  # at a right angle, so that the ratio is known
    error = rain * dog.norm() / rain.norm() * 1e-7
    assert si_sdr(0.3 * (dog + error), dog).item() == pytest.approx(140, abs=1e-3)
    assert sdr(dog + error, dog).item() == pytest.approx(140, abs=1e-3)
