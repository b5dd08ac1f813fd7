"""The shipped weights on recordings they were not trained on: what they gained once must not be lost."""

import runpy
from pathlib import Path

import pytest
import torch

import unweave
from unweave import Query
from unweave.evaluate.metrics.signal import attenuation_db, si_sdr, si_sdr_improvement

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def truth() -> dict[str, torch.Tensor]:
    parts: dict[str, torch.Tensor] = runpy.run_path(str(DATA / "make_mixture.py"))["parts"]()
    return parts


def test_street(truth: dict[str, torch.Tensor]) -> None:
    """Stereo at 44.1 kHz: both sounds come out far better than the recording, and the tracks add up."""
    mixture = unweave.read(DATA / "street.flac")
    *stems, rest = unweave.separate(mixture, list(truth))
    for stem, (name, part) in zip(stems, truth.items(), strict=True):
        gain = si_sdr_improvement(stem.audio.samples, part, mixture.samples).mean().item()
        assert gain > GAINED[name] - 1, f"{name}: {gain:.1f} dB"
        assert stem.score > 0.5
    total = torch.stack([stem.audio.samples for stem in [*stems, rest]]).sum(0)
    assert (total - mixture.samples).abs().max() <= 1e-6


GAINED = {"dog barking": 12.2, "rain": 16.7}  # dB, measured once with these weights


def test_what_is_not_there_comes_out_quiet_on_average() -> None:
    """On average: a bark still passes for speech and for a sneeze, as the card says."""
    mixture = unweave.read(DATA / "street.flac")
    absent = ("violin", "church bells", "a person sneezing", "helicopter", "speech", "car horn", "piano")
    down = [
        attenuation_db(unweave.extract(mixture, name).samples, mixture.samples).mean().clamp(max=60)
        for name in absent
    ]
    assert torch.stack(down).mean() > 25


def test_other_words_for_the_same_sound_find_it(truth: dict[str, torch.Tensor]) -> None:
    mixture = unweave.read(DATA / "street.flac")
    for words in ("a dog barking", "the sound of a barking dog", "Dog Barking"):
        found = unweave.extract(mixture, words)
        dog, rain = (si_sdr(found.samples, truth[name]).mean() for name in ("dog barking", "rain"))
        assert dog > rain + 10, words


def test_negative_words_and_spans_change_the_answer(truth: dict[str, torch.Tensor]) -> None:
    mixture = unweave.read(DATA / "street.flac")
    plain = unweave.extract(mixture, "rain").samples
    negative = unweave.extract(mixture, Query("rain", not_text="dog barking")).samples
    rest = mixture.samples - truth["rain"]
    assert (negative * rest).sum().abs() <= (plain * rest).sum().abs()
    inside = unweave.extract(mixture, Query("rain", spans=((1.0, 2.0),))).samples
    rate = mixture.sample_rate
    assert inside[:, int(1.1 * rate) : int(1.9 * rate)].abs().max() > 0
    assert not inside[:, : int(0.9 * rate)].any()
