"""Levels: what is asked for is what is measured."""

import math
from pathlib import Path

import pytest
import soundfile
import torch

from unweave.errors import UsageError
from unweave.signal.mixing import db_from_gain, fade, gain_from_db, mix_at_snr, peak_dbfs, rms_dbfs

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 17.3, 60.0])
def test_mixture_has_the_ratio_asked_for(snr_db: float) -> None:
    dog, rain = (
        torch.from_numpy(soundfile.read(DATA / name, dtype="float32", frames=64_000)[0])
        for name in ("dog-barking.flac", "rain.flac")
    )

    mixture, scaled = mix_at_snr(dog, rain, snr_db)

    assert 10 * math.log10(dog.square().sum() / scaled.square().sum()) == pytest.approx(snr_db, abs=1e-3)
    assert torch.allclose(mixture - scaled, dog, atol=1e-6)
    assert torch.allclose(scaled / scaled.abs().max(), rain / rain.abs().max(), atol=1e-5)


@pytest.mark.parametrize("silent", ["target", "interferer"])
def test_silence_has_no_ratio(silent: str) -> None:
    sounds = {"target": torch.ones(4), "interferer": torch.ones(4)} | {silent: torch.zeros(4)}
    with pytest.raises(UsageError, match=f"the {silent} is silent"):
        mix_at_snr(**sounds, snr_db=0)


def test_shapes_must_agree() -> None:
    with pytest.raises(UsageError, match="differ in shape"):
        mix_at_snr(torch.ones(1, 4), torch.ones(4), snr_db=0)


def test_levels_of_a_full_scale_sine() -> None:
    sine = (2 * torch.pi * torch.arange(480) / 48).sin()
    assert peak_dbfs(sine) == pytest.approx(0, abs=1e-5)
    assert rms_dbfs(sine) == pytest.approx(-3.0103, abs=1e-4)


@pytest.mark.parametrize("nothing", [torch.zeros(2, 5), torch.zeros(2, 0)])
def test_levels_of_nothing(nothing: torch.Tensor) -> None:
    assert peak_dbfs(nothing) == -math.inf
    assert rms_dbfs(nothing) == -math.inf


def test_decibels_and_back() -> None:
    assert db_from_gain(gain_from_db(-6.02)) == pytest.approx(-6.02)
    assert gain_from_db(-math.inf) == 0


def test_opposite_fades_sum_to_one() -> None:
    rise, fall = fade(50, fade_in=50, fade_out=0), fade(50, fade_in=0, fade_out=50)
    assert torch.allclose(rise + fall, torch.ones(50), atol=1e-6)
    assert (rise.diff() > 0).all()


def test_fades_leave_the_middle_alone() -> None:
    gain = fade(100, fade_in=10, fade_out=30)
    assert (gain[10:70] == 1).all()
    assert gain[0] < 0.01
    assert gain[-1] < 0.01
    assert (fade(7, 0, 0) == 1).all()
    assert fade(0, 5, 5).shape == (0,)
