"""An engine's answers become stems of the recording: nothing lost, nothing moved, little blurred."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import sdr, si_sdr
from unweave.signal import consistency
from unweave.signal.masks import ratio_mask
from unweave.signal.mixing import mix_at_snr
from unweave.signal.stft import istft, stft

DATA = Path(__file__).parent / "data"
ENGINE_RATE = 32_000
PAIRS = [("dog-barking", "rain"), ("speech", "clock-ticking"), ("alto-saxophone", "speech")]


def resampled(samples: Tensor, rate: int, other: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(samples.T.numpy(), rate, other).T))


def recording(names: tuple[str, str], rate: int, channels: int) -> Tensor:
    """(2, C, T): two sounds of 2 s that are equally loud, one to the left and one to the right."""
    sounds = [
        torch.from_numpy(soundfile.read(DATA / f"{name}.flac", dtype="float32", frames=64_000)[0])
        for name in names
    ]
    first, second = sounds[0] / 4, mix_at_snr(sounds[0] / 4, sounds[1], snr_db=0)[1]
    if channels == 2:
        pan = torch.tensor([[1.0, 0.4], [0.3, 1.0]])
        placed = torch.stack([first, second])[:, None] * pan[:, :, None]
    else:
        placed = torch.stack([first, second])[:, None]
    return torch.stack([resampled(sound, ENGINE_RATE, rate) for sound in placed])


def engine(sounds: Tensor) -> Tensor:
    """(2, C, T) sounds at the engine's rate -> (2, C, T): an ideal ratio mask of 128 bands."""
    power = stft(sounds).abs().square().sum(1)  # (2, F, N)
    band = (torch.linspace(0, 1, power.shape[1]).sqrt() * 127).round().long()
    merged = torch.zeros(2, 128, power.shape[2]).index_add_(1, band, power)[:, band]
    masks = torch.stack([ratio_mask(merged[0], merged[1]), ratio_mask(merged[1], merged[0])])
    mixture = sounds.sum(0)
    return istft(stft(mixture) * masks[:, None], mixture.shape[-1])


@pytest.mark.parametrize(
    ("rate", "channels", "loss_db"),
    [
        (32_000, 1, 0.15),
        (32_000, 2, 0.15),
        (44_100, 2, 0.3),
        (48_000, 2, 0.3),
        (22_050, 1, 0.3),
        (16_000, 1, 0.3),
    ],
)
def test_little_is_lost_on_the_way(rate: int, channels: int, loss_db: float) -> None:
    """SI-SDR of the engine's own answer, brought to the recording's rate, against that of the stem."""
    losses = []
    for names in PAIRS:
        sounds = recording(names, rate, channels)
        heard = torch.stack([resampled(sound, rate, ENGINE_RATE) for sound in sounds])
        mixture, answers = sounds.sum(0), engine(heard)

        masks = consistency.masks_on(
            mixture, heard.sum(0), answers, mixture_rate=rate, heard_rate=ENGINE_RATE
        )
        stems = consistency.apply(mixture, masks, mixture_rate=rate)

        direct = torch.stack([resampled(answer, ENGINE_RATE, rate) for answer in answers])
        length = min(direct.shape[-1], mixture.shape[-1])
        before = si_sdr(direct[..., :length], sounds[..., :length])
        after = si_sdr(stems[..., :length], sounds[..., :length])
        # A gain over the answer, where bringing it to the rate costs more, makes up for no loss.
        losses.append((before - after).clamp(min=0).mean())
    assert torch.stack(losses).mean() < loss_db


@pytest.mark.parametrize(
    ("rate", "channels"), [(32_000, 1), (44_100, 2), (48_000, 2), (16_000, 1), (11_025, 2)]
)
def test_stems_and_residual_sum_to_the_recording(rate: int, channels: int) -> None:
    sounds = recording(PAIRS[0], rate, channels)
    heard = torch.stack([resampled(sound, rate, ENGINE_RATE) for sound in sounds])
    mixture = sounds.sum(0)
    before = mixture.clone()

    stems = consistency.native_stems(
        mixture,
        heard.sum(0),
        engine(heard),
        torch.tensor([True, True]),
        mixture_rate=rate,
        heard_rate=ENGINE_RATE,
    )
    rest = consistency.residual(mixture, stems)

    assert stems.shape == sounds.shape
    assert stems.dtype == rest.dtype == torch.float32
    assert torch.equal(mixture, before), "the recording was changed"
    assert consistency.sum_error_db(mixture, stems, rest) <= -120
    added_up = stems[0] + stems[1] + rest  # as an editor does it, in float32
    assert 20 * math.log10((added_up - mixture).abs().max().item() + 1e-12) <= -120


def test_the_stereo_image_stays() -> None:
    """One channel is the other at half its level; so must every stem be, though the engine heard mono."""
    mono = recording(PAIRS[0], 48_000, 1)
    mixture = torch.cat([mono, 0.5 * mono], dim=1).sum(0)
    heard = torch.stack([resampled(sound, 48_000, ENGINE_RATE) for sound in mono])

    stems = consistency.native_stems(
        mixture,
        heard.sum(0),
        engine(heard),
        torch.tensor([True, True]),
        mixture_rate=48_000,
        heard_rate=ENGINE_RATE,
    )

    assert torch.allclose(stems[:, 1], 0.5 * stems[:, 0], atol=1e-6)
    assert stems.abs().max() > 0.1


@pytest.mark.parametrize("invented", ["turned over", "late"])
def test_the_phase_of_an_answer_does_not_matter(invented: str) -> None:
    sounds = recording(PAIRS[0], ENGINE_RATE, 1)
    answers = -sounds if invented == "turned over" else sounds.roll(32, dims=-1)  # 1 ms

    masks = consistency.masks_on(
        sounds.sum(0), sounds.sum(0), answers, mixture_rate=ENGINE_RATE, heard_rate=ENGINE_RATE
    )
    stems = consistency.apply(sounds.sum(0), masks, mixture_rate=ENGINE_RATE)

    assert (si_sdr(answers, sounds) < 0).all() if invented == "late" else True
    assert (si_sdr(stems, sounds) > 8).all()


def test_above_the_band_sound_goes_with_what_is_below_it() -> None:
    """White noise: the first second is wanted, the second is not; the engine hears nothing above 8 kHz."""
    noise = torch.randn(1, 64_000, generator=torch.Generator().manual_seed(0)) / 10
    wanted = noise * (torch.arange(64_000) < 32_000)
    heard, answer = (resampled(sound, 32_000, 16_000) for sound in (noise, wanted))

    masks = consistency.masks_on(noise, heard, answer[None], mixture_rate=32_000, heard_rate=16_000)
    stem = consistency.apply(noise, masks, mixture_rate=32_000)[0]

    above = (torch.arange(1025) > 520)[:, None]
    high_stem, high_wanted = (istft(stft(sound) * above, 64_000) for sound in (stem, wanted))
    assert sdr(high_stem, high_wanted).item() > 15


def test_real_overtones_above_the_band_are_kept() -> None:
    """A recording again: without the continuation nothing above 8 kHz would be found, and SDR were 0 dB."""
    sounds = recording(("dog-barking", "alto-saxophone"), 32_000, 1)
    heard = torch.stack([resampled(sound, 32_000, 16_000) for sound in sounds])
    mixture = sounds.sum(0)

    masks = consistency.masks_on(mixture, heard.sum(0), heard, mixture_rate=32_000, heard_rate=16_000)
    stems = consistency.apply(mixture, masks, mixture_rate=32_000)

    above = (torch.arange(1025) > 520)[:, None]
    high_stem, high_sound = (istft(stft(sound[0]) * above, mixture.shape[-1]) for sound in (stems, sounds))
    assert sdr(high_stem, high_sound).item() > 2


def test_all_and_nothing() -> None:
    """An engine that hands back what it heard, and one that hears nothing."""
    mixture = recording(PAIRS[1], 44_100, 2).sum(0)
    heard = resampled(mixture, 44_100, ENGINE_RATE)
    answers = torch.stack([heard, torch.zeros_like(heard), 5 * heard])

    stems = consistency.native_stems(
        mixture,
        heard,
        answers,
        torch.tensor([True, True, False]),
        mixture_rate=44_100,
        heard_rate=ENGINE_RATE,
    )

    assert torch.allclose(stems[0], mixture, atol=1e-5)
    assert (stems[1] == 0).all()
    assert torch.allclose(stems[2], mixture, atol=1e-5)  # no stem is louder than the recording


def test_kept_stems_share_and_removals_do_not() -> None:
    mixture = recording(PAIRS[0], ENGINE_RATE, 1).sum(0)
    answers = mixture.expand(3, -1, -1)
    stems = consistency.native_stems(
        mixture, mixture, answers, torch.tensor([True, True, False]), mixture_rate=32_000, heard_rate=32_000
    )
    assert torch.allclose(stems[0], mixture / 2, atol=1e-6)
    assert torch.allclose(stems[1], mixture / 2, atol=1e-6)
    assert torch.allclose(stems[2], mixture, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 441, 1023])
@pytest.mark.parametrize("rate", [32_000, 44_100, 11_025])
def test_the_shortest_recordings_pass(length: int, rate: int) -> None:
    mixture = torch.rand(2, length, generator=torch.Generator().manual_seed(0))
    heard = torch.nn.functional.pad(mixture, (0, round(length * 32_000 / rate) - length))
    stems = consistency.native_stems(
        mixture, heard, heard[None] / 2, torch.tensor([True]), mixture_rate=rate, heard_rate=32_000
    )
    assert stems.shape == (1, 2, length)
    assert stems.isfinite().all()
    assert consistency.sum_error_db(mixture, stems, consistency.residual(mixture, stems)) <= -120


def test_no_queries_give_no_stems() -> None:
    mixture = torch.rand(2, 5000)
    stems = consistency.native_stems(
        mixture,
        mixture,
        torch.zeros(0, 2, 5000),
        torch.zeros(0, dtype=torch.bool),
        mixture_rate=8000,
        heard_rate=8000,
    )
    assert stems.shape == (0, 2, 5000)
    assert torch.equal(consistency.residual(mixture, stems), mixture)
    assert consistency.sum_error_db(mixture, stems, mixture) == -math.inf


def test_the_error_of_a_bad_sum_is_seen() -> None:
    mixture = torch.zeros(1, 100)
    rest = torch.zeros(1, 100)
    rest[0, 50] = 0.01
    assert consistency.sum_error_db(mixture, torch.zeros(1, 1, 100), rest) == pytest.approx(-40)


@pytest.mark.parametrize(
    "rate", [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 88_200, 96_000, 192_000]
)
def test_every_grid_is_about_64_and_16_ms(rate: int) -> None:
    fft_size, hop = consistency.grid(rate)
    assert fft_size == 4 * hop
    assert 0.008 <= hop / rate <= 0.022


def test_what_does_not_belong_together_is_refused() -> None:
    mixture, heard = torch.zeros(2, 48_000), torch.zeros(1, 32_000)
    rates = {"mixture_rate": 48_000, "heard_rate": 32_000}
    with pytest.raises(UsageError, match="estimates are"):
        consistency.masks_on(mixture, heard, torch.zeros(1, 2, 32_000), **rates)
    with pytest.raises(UsageError, match=r"is 1\.00 s.*is 0\.50 s"):
        consistency.masks_on(mixture, heard[:, :16_000], torch.zeros(1, 1, 16_000), **rates)
    masks = consistency.masks_on(mixture, heard, heard[None], **rates)
    with pytest.raises(UsageError, match="do not fit this recording"):
        consistency.apply(mixture[:, :40_000], masks, mixture_rate=48_000)
