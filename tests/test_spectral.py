"""Spectral distances against auraloss, librosa and plain numpy, on real clips and constructed signals."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.audio.resample import resample
from unweave.errors import UsageError
from unweave.evaluate.metrics import spectral
from unweave.evaluate.metrics.spectral import (
    audioldm_lsd,
    log_spectral_distance,
    mel_distance,
    mel_psnr,
    multi_resolution_stft,
    unisep_stft_distance,
)

DATA = Path(__file__).parent / "data"
RATE = 32_000
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multi_resolution_stft": multi_resolution_stft,
    "unisep_stft_distance": unisep_stft_distance,
    "log_spectral_distance": lambda e, r: log_spectral_distance(e, r, RATE),
    "audioldm_lsd": lambda e, r: audioldm_lsd(e, r, RATE),
    "mel_psnr": lambda e, r: mel_psnr(e, r, RATE),
    "mel_distance": lambda e, r: mel_distance(e, r, RATE),
}
every_metric = pytest.mark.parametrize("name", METRICS)


def clip(name: str) -> Tensor:
    return torch.from_numpy(soundfile.read(DATA / name, dtype="float32", frames=64_000)[0])


DOG, RAIN, SPEECH = clip("dog-barking.flac"), clip("rain.flac"), clip("speech.flac")

# What a separator may give for each reference: a leak, a wrong level, nothing, something else altogether; and
# so little sound that every frame weighs.
PAIRS = {
    "leak": (0.8 * DOG + 0.1 * RAIN, DOG),
    "quiet": (0.03 * SPEECH, SPEECH),
    "silent": (torch.zeros_like(SPEECH), SPEECH),
    "wrong": (RAIN, SPEECH),
    "loud": (8 * SPEECH, SPEECH),  # beyond full scale
    "short": (RAIN[5000:7500], SPEECH[5000:7500]),
}
every_pair = pytest.mark.parametrize("pair", PAIRS)


def magnitudes(samples: Tensor, fft: int, hop: int, edges: str) -> np.ndarray:
    """(F, N) in float64, every frame cut out and transformed by numpy."""
    padded = np.pad(samples.double().numpy(), fft // 2, mode=edges)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    starts = range(0, len(padded) - fft + 1, hop)
    return np.abs(np.stack([np.fft.rfft(padded[start : start + fft] * window) for start in starts], axis=1))


@every_pair
def test_multi_resolution_stft_agrees_with_auraloss(pair: str) -> None:
    from auraloss.freq import MultiResolutionSTFTLoss

    estimate, reference = PAIRS[pair]
    loss = MultiResolutionSTFTLoss([512, 1024, 2048], [50, 120, 240], [240, 600, 1200])
    theirs = loss(estimate[None, None], reference[None, None]).item()
    assert multi_resolution_stft(estimate, reference).item() == pytest.approx(theirs, rel=1e-4)


@every_pair
def test_unisep_stft_distance_is_two_log_distances(pair: str) -> None:
    estimate, reference = PAIRS[pair]
    expected = 0.0
    for size in (2048, 512):
        e, r = (
            magnitudes(samples, size, size // 4, "reflect").clip(1e-5) for samples in (estimate, reference)
        )
        expected += np.abs(2 * np.log10(e) - 2 * np.log10(r)).mean()
    assert unisep_stft_distance(estimate, reference).item() == pytest.approx(expected, rel=1e-3)


@every_pair
def test_log_spectral_distance_is_its_formula(pair: str) -> None:
    estimate, reference = PAIRS[pair]
    e, r = ((magnitudes(x, 2048, 512, "constant") ** 2).clip(1e-8) for x in (estimate, reference))
    expected = np.sqrt((np.log10(r / e) ** 2).mean(0)).mean()
    assert log_spectral_distance(estimate, reference, RATE).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
@pytest.mark.parametrize("pair", ["leak", "quiet", "wrong", "short"])
def test_audioldm_lsd_agrees_with_the_steps_of_the_original(pair: str, rate: int) -> None:
    """Mean off, peak to 1, librosa's transform, the published formula; all but its shift by 1120 samples."""
    import librosa

    signals = [signal.double().numpy() for signal in PAIRS[pair]]
    signals = [signal - signal.mean() for signal in signals]
    signals = [signal / np.abs(signal).max() for signal in signals]
    size, hop = {16_000: (743, 160), 32_000: (1486, 320), 44_100: (2048, 441)}[rate]
    e, r = (np.abs(librosa.stft(signal, n_fft=size, hop_length=hop)) for signal in signals)
    logs = np.log10(r**2 / (e + 1e-12) ** 2 + 1e-12)
    expected = np.sqrt((logs**2).mean(0)).mean()
    assert audioldm_lsd(*PAIRS[pair], rate).item() == pytest.approx(expected, rel=1e-4)


def test_audioldm_lsd_keeps_the_flaws_of_the_original_and_not_its_shift() -> None:
    pulse = torch.zeros(64_000)  # of mean 0, so that its zeros stay zeros
    pulse[20_000], pulse[20_001] = 1, -1
    assert audioldm_lsd(pulse, pulse, 16_000).item() == pytest.approx(12, abs=0.2)
    assert audioldm_lsd(0.1 * RAIN, RAIN, 16_000).item() < 1e-3
    # An estimate that is 1120 samples late is what the original would call aligned.
    late = torch.cat([torch.zeros(1120), RAIN[:-1120]])
    assert audioldm_lsd(late, RAIN, 16_000).item() > 0.5


@every_pair
@pytest.mark.parametrize("rate", [16_000, 32_000])
def test_mel_psnr_is_that_of_two_images(pair: str, rate: int) -> None:
    import librosa

    bands = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64, fmin=50, fmax=8000)
    images = []
    for samples in PAIRS[pair]:
        samples = resample(samples - samples.mean(), rate, 16_000).clamp(-1, 1)
        mel = (bands @ magnitudes(samples, 512, 160, "reflect")).clip(1e-5)
        images.append(((20 * np.log10(mel) - 20 + 100) / 100).clip(0, 1))
    expected = -10 * math.log10(((images[0] - images[1]) ** 2).mean())
    assert mel_psnr(*PAIRS[pair], rate).item() == pytest.approx(expected, abs=2e-3)


def test_mel_psnr_hardly_depends_on_the_rate_it_is_given() -> None:
    at_32 = mel_psnr(*PAIRS["leak"], 32_000).item()
    at_48 = mel_psnr(*(resample(samples, 32_000, 48_000) for samples in PAIRS["leak"]), 48_000).item()
    assert at_48 == pytest.approx(at_32, abs=0.1)
    assert mel_psnr(*PAIRS["leak"], 16_000).item() != pytest.approx(at_32, abs=0.1)


def test_mel_psnr_hears_nothing_above_8_khz() -> None:
    """At 16 kHz there is no such sound; a careless resampler would fold a tone of 12 kHz down to 4 kHz."""
    phase = torch.arange(64_000) * 2 * torch.pi / 32_000
    low, high = (0.1 * (phase * hz).sin() * torch.hann_window(64_000) for hz in (4000, 12_000))
    assert mel_psnr(SPEECH + low, SPEECH, 32_000).item() < 30
    assert mel_psnr(SPEECH + high, SPEECH, 32_000).item() > 45
    assert mel_distance(SPEECH + high, SPEECH, 32_000).item() > 0.3  # hears it


@every_pair
@pytest.mark.parametrize("rate", [16_000, 32_000])
def test_mel_distance_agrees_with_librosa(pair: str, rate: int) -> None:
    import librosa

    e, r = (
        librosa.feature.melspectrogram(
            y=samples.double().numpy(), sr=rate, n_fft=2048, hop_length=512, n_mels=80, power=1
        ).clip(1e-5)
        for samples in PAIRS[pair]
    )
    expected = np.abs(20 * np.log10(e / r)).mean()
    assert mel_distance(*PAIRS[pair], rate).item() == pytest.approx(expected, rel=1e-3)


@every_metric
def test_each_signal_gets_its_own_number(name: str) -> None:
    metric = METRICS[name]
    estimates = torch.stack([0.8 * DOG + 0.1 * RAIN, RAIN, 0 * RAIN])[:, None].expand(3, 2, -1)
    references = torch.stack([DOG, SPEECH]).expand_as(estimates)
    together = metric(estimates, references)
    assert together.shape == (3, 2)
    assert together.dtype == torch.float64
    for i in range(3):
        for j in range(2):
            assert together[i, j].item() == metric(estimates[i, j], references[i, j]).item()


@every_metric
def test_perfect_silent_and_constant(name: str) -> None:
    metric, silence = METRICS[name], torch.zeros(64_000)
    perfect = metric(RAIN, RAIN).item()
    assert perfect == (math.inf if name == "mel_psnr" else pytest.approx(0, abs=1e-6))
    assert math.isnan(metric(RAIN, silence).item())
    assert math.isnan(metric(silence, silence).item())
    worse, better = metric(silence, RAIN).item(), metric(0.5 * RAIN + 0.01 * DOG, RAIN).item()
    assert math.isfinite(worse)
    assert (worse < better) if name == "mel_psnr" else (worse > better)


def test_a_reference_too_faint_to_see_is_undefined() -> None:
    faint = 1e-7 * RAIN
    assert math.isnan(mel_psnr(RAIN, faint, RATE).item())
    assert math.isnan(audioldm_lsd(RAIN, torch.full_like(RAIN, 0.3), RATE).item())  # a constant
    assert math.isnan(mel_psnr(RAIN, torch.full_like(RAIN, 0.3), RATE).item())


@every_metric
def test_more_noise_is_worse(name: str) -> None:
    values = [METRICS[name](SPEECH + level * RAIN, SPEECH).item() for level in (0.01, 0.1, 1.0)]
    assert values == sorted(values, reverse=name == "mel_psnr")
    assert values[0] != pytest.approx(values[2], rel=0.1)


def test_digital_silence_and_its_rounding_noise_are_nearly_alike() -> None:
    """The dog is silent for half its clip; a hiss of one 16-bit step there must not decide the score."""
    hiss = (torch.rand(DOG.shape, generator=torch.Generator().manual_seed(0)) - 0.5) / 32768
    assert log_spectral_distance(DOG + hiss, DOG, RATE).item() < 0.7
    assert mel_distance(DOG + hiss, DOG, RATE).item() < 3
    assert audioldm_lsd(DOG + hiss, DOG, RATE).item() > 1  # the original's want of a floor, kept


@every_metric
def test_refusals(name: str) -> None:
    metric = METRICS[name]
    with pytest.raises(UsageError, match="same shape"):
        metric(RAIN[:-1], RAIN)
    with pytest.raises(UsageError, match="the estimate should hold finite samples, got 64000"):
        metric(RAIN * torch.nan, RAIN)
    broken = RAIN.clone()
    broken[7] = -torch.inf
    with pytest.raises(UsageError, match=r"the reference should hold .* got 1 .* first at index \(7,\)"):
        metric(RAIN, broken)


def test_too_short_and_no_rate() -> None:
    for name in ("multi_resolution_stft", "unisep_stft_distance"):
        assert METRICS[name](RAIN[:1025] / 2, RAIN[:1025]).isfinite()
        with pytest.raises(UsageError, match="1025 samples or more, got 1024"):
            METRICS[name](RAIN[:1024], RAIN[:1024])
    with pytest.raises(UsageError, match="257 samples or more, got 256"):
        mel_psnr(RAIN[:512], RAIN[:512], RATE)
    for metric in (log_spectral_distance, audioldm_lsd, mel_psnr, mel_distance):
        with pytest.raises(UsageError, match="32 kHz is 32000"):
            metric(RAIN, RAIN, 32)
        assert metric(RAIN[:1000] / 2, RAIN[:1000], RATE).isfinite()


def test_the_blocks_that_frames_are_read_in_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: metric(*PAIRS["leak"]).item() for name, metric in METRICS.items()}
    monkeypatch.setattr(spectral, "_BLOCK", 3 * 2048)
    for name, metric in METRICS.items():
        assert metric(*PAIRS["leak"]).item() == pytest.approx(whole[name], rel=1e-5)


def test_inputs_are_left_alone_and_gradients_are_not_asked_for() -> None:
    estimate, reference = PAIRS["leak"][0].clone().requires_grad_(), PAIRS["leak"][1].clone()
    for metric in METRICS.values():
        assert not metric(estimate, reference).requires_grad
    assert torch.equal(estimate.detach(), PAIRS["leak"][0])
    assert torch.equal(reference, PAIRS["leak"][1])
