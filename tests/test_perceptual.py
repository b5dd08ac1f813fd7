"""Perceptual metrics against the packages that define them, and where they mean nothing."""

import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.audio import resample
from unweave.errors import ModelError, UsageError
from unweave.evaluate.metrics import perceptual
from unweave.evaluate.metrics.perceptual import dnsmos, pesq, stoi, visqol
from unweave.signal.mixing import mix_at_snr

pytestmark = pytest.mark.skipif(
    find_spec("pesq") is None or find_spec("visqol") is None,
    reason="pip install 'unweave[metrics]' compiles two packages, and there was no compiler",
)
DATA = Path(__file__).parent / "data"
RATE = 32_000
SNRS_DB = (0.0, 10.0, 20.0, 40.0)


def estoi(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return stoi(estimate, reference, sample_rate, extended=True)


def visqol_speech(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return visqol(estimate, reference, sample_rate, mode="speech")


PAIRED = [pesq, stoi, estoi, visqol, visqol_speech]


@pytest.fixture(scope="module")
def speech() -> Tensor:
    return torch.from_numpy(soundfile.read(DATA / "speech.flac", dtype="float32")[0])  # 3 s at 32 kHz


@pytest.fixture(scope="module")
def noisy(speech: Tensor) -> Tensor:
    """(4, T): the speech in white noise at `SNRS_DB`."""
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    return torch.stack([mix_at_snr(speech, noise, snr_db)[0] for snr_db in SNRS_DB])


@pytest.fixture(scope="module")
def window(noisy: Tensor) -> Tensor:
    """(4, T): the same, for just one window of DNSMOS."""
    return noisy.repeat(1, 4)[:, : int(9.1 * RATE)]


def test_pesq_agrees_with_the_package(speech: Tensor, noisy: Tensor) -> None:
    from pesq import pesq as reference
    from scipy.signal import resample_poly

    clean, degraded = (resample(one, RATE, 16_000) for one in (speech, noisy))
    ours = pesq(degraded, clean.expand_as(degraded), 16_000)
    theirs = [reference(16_000, clean.numpy(), one.numpy(), "wb") for one in degraded]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6)
    theirs = [
        reference(16_000, *(resample_poly(x.numpy(), 1, 2) for x in (speech, one)), "wb") for one in noisy
    ]
    assert pesq(noisy, speech.expand_as(noisy), RATE).tolist() == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.filterwarnings("default")  # of the other implementation
def test_stoi_agrees_with_pystoi(speech: Tensor, noisy: Tensor, extended: bool) -> None:
    from pystoi import stoi as reference

    rain = torch.from_numpy(soundfile.read(DATA / "rain.flac", dtype="float32", frames=len(speech))[0])
    estimates = torch.cat([noisy, (speech + rain)[None], (speech * (rain > 0))[None]])
    clean, degraded = (resample(one, RATE, 10_000) for one in (speech, estimates))
    ours = stoi(degraded, clean.expand_as(degraded), 10_000, extended)
    theirs = [reference(clean.numpy(), one.numpy(), 10_000, extended) for one in degraded]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-5)
    theirs = [reference(speech.numpy(), one.numpy(), RATE, extended) for one in estimates]
    assert stoi(estimates, speech.expand_as(estimates), RATE, extended).tolist() == pytest.approx(
        theirs, abs=0.005
    )


@pytest.mark.parametrize("mode", ["audio", "speech"])
def test_visqol_agrees_with_the_package_on_files(
    speech: Tensor, noisy: Tensor, mode: str, tmp_path: Path
) -> None:
    import visqol as package

    rate = {"audio": 48_000, "speech": 16_000}[mode]
    late = noisy[2].roll(700)  # so that it has to be aligned
    for name, samples in (("clean", speech), ("degraded", late)):
        soundfile.write(
            tmp_path / f"{name}.wav", resample(samples, RATE, rate).numpy(), rate, subtype="DOUBLE"
        )
    model = package.VisqolApi()
    model.create(mode=mode, use_lattice_model=False)
    theirs = model.measure(str(tmp_path / "clean.wav"), str(tmp_path / "degraded.wav")).moslqo
    assert visqol(late, speech, RATE, mode).item() == pytest.approx(theirs, abs=1e-6)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("default")  # of the other implementation
def test_dnsmos_agrees_with_speechmos(speech: Tensor, noisy: Tensor) -> None:
    """On less than one window, on several, and on one with a second left over that it does not use."""
    from speechmos import dnsmos as reference

    once, more = resample(noisy[2], RATE, 16_000), resample(speech.repeat(4), RATE, 16_000)
    for samples in (once, more[: int(10.5 * 16_000)], more[: 11 * 16_000]):
        theirs = reference.run(samples.numpy(), 16_000)
        ours = dnsmos(samples, 16_000)
        assert ours.signal.item() == pytest.approx(theirs["sig_mos"], abs=1e-4)
        assert ours.background.item() == pytest.approx(theirs["bak_mos"], abs=1e-4)
        assert ours.overall.item() == pytest.approx(theirs["ovrl_mos"], abs=1e-4)
        assert ours.p808.item() == pytest.approx(theirs["p808_mos"], abs=1e-4)


@pytest.mark.parametrize("metric", PAIRED)
def test_more_noise_is_worse_and_none_is_best(metric, speech: Tensor, noisy: Tensor) -> None:
    best = {pesq: 4.6439, stoi: 1, estoi: 1, visqol: 4.7321, visqol_speech: 5}[metric]
    estimates = torch.cat([noisy, speech[None]])
    found = metric(estimates, speech.expand_as(estimates), RATE)
    assert found.dtype == torch.float64
    assert (found.diff() > 0).all()
    assert found[-1].item() == pytest.approx(best, abs=1e-3)


def test_more_noise_is_worse_without_a_reference(window: Tensor) -> None:
    found = dnsmos(window[[0, 3]], RATE)
    for score in (found.background, found.overall, found.p808):
        assert score[0] < score[1] - 0.3


@pytest.mark.parametrize("metric", PAIRED)
def test_level_does_not_matter(metric, speech: Tensor, noisy: Tensor) -> None:
    expected = metric(noisy[2], speech, RATE).item()
    assert metric(0.1 * noisy[2], speech, RATE).item() == pytest.approx(expected, abs=1e-3)
    quiet = metric(noisy[2], 0.1 * speech, RATE).item()
    if metric is visqol:  # in a quiet reference, less of it can be heard
        assert quiet < expected - 0.1
    elif metric is not visqol_speech:
        assert quiet == pytest.approx(expected, abs=1e-3)


def test_level_matters_to_dnsmos_but_not_to_its_p808(window: Tensor) -> None:
    loud, quiet = dnsmos(window[3], RATE), dnsmos(0.1 * window[3], RATE)
    assert loud.p808.item() == pytest.approx(quiet.p808.item(), abs=1e-3)
    assert loud.overall.item() - quiet.overall.item() > 0.1


def test_delay_does_not_matter_to_visqol(speech: Tensor, noisy: Tensor) -> None:
    late = torch.nn.functional.pad(noisy[3], (3_200, 0))[: len(speech)]
    assert visqol(late, speech, RATE).item() == pytest.approx(visqol(noisy[3], speech, RATE).item(), abs=0.1)
    assert stoi(late, speech, RATE).item() < stoi(noisy[3], speech, RATE).item() - 0.2  # to others it does


def test_every_signal_gets_its_own_number(speech: Tensor, noisy: Tensor, window: Tensor) -> None:
    estimates = noisy.reshape(2, 2, -1)[..., :RATE]
    references = speech[:RATE].expand_as(estimates)
    for metric in (pesq, stoi, visqol_speech):
        together = metric(estimates, references, RATE)
        assert together.shape == (2, 2)
        alone = metric(estimates[1, 0], speech[:RATE], RATE)
        assert together[1, 0].item() == pytest.approx(alone.item(), abs=1e-9)
        assert alone.shape == ()
    together = dnsmos(window[None, :2], RATE).overall
    assert together.shape == (1, 2)
    assert together[0, 1].item() == pytest.approx(dnsmos(window[1], RATE).overall.item(), abs=1e-5)


@pytest.mark.parametrize("metric", PAIRED)
def test_what_means_nothing_is_not_a_number(metric, speech: Tensor) -> None:
    silence = torch.zeros_like(speech)
    for nothing in (silence, silence + 0.2):
        assert metric(nothing, speech, RATE).isnan()
        assert metric(speech, nothing, RATE).isnan()
    for samples in (0, 1, 200, RATE // 10):
        assert metric(speech[:samples], speech[:samples], RATE).isnan()
    mixed = metric(torch.stack([speech, silence]), speech.expand(2, -1), RATE)
    assert mixed.isnan().tolist() == [False, True]  # and the others are not spoilt


def test_dnsmos_of_nothing_is_not_a_number(speech: Tensor) -> None:
    for samples in (torch.zeros(RATE * 2), speech[: RATE - 100], speech[:0], torch.full((RATE * 2,), 0.1)):
        found = dnsmos(samples, RATE)
        assert all(score.isnan() for score in (found.signal, found.background, found.overall, found.p808))
    assert not dnsmos(speech[: int(1.2 * RATE)], RATE).overall.isnan()


def test_pesq_is_kept_from_writing_past_its_tables(speech: Tensor) -> None:
    long = speech.repeat(7)
    assert pesq(long[: 20 * RATE], long[: 20 * RATE], RATE).item() == pytest.approx(4.6439, abs=1e-3)
    assert pesq(long, long, RATE).isnan()


def test_what_is_no_sound_is_refused(speech: Tensor) -> None:
    broken = speech.clone()
    broken[7] = math.inf
    for metric in PAIRED:
        with pytest.raises(UsageError, match="estimate"):
            metric(broken, speech, RATE)
        with pytest.raises(UsageError, match="reference"):
            metric(speech, broken, RATE)
        with pytest.raises(UsageError, match="shape"):
            metric(speech[1:], speech, RATE)
    with pytest.raises(UsageError, match="estimate"):
        dnsmos(broken * math.nan, RATE)
    with pytest.raises(UsageError, match="'music'"):
        visqol(speech, speech, RATE, mode="music")  # type: ignore[arg-type]


def test_packages_neither_print_nor_log(
    speech: Tensor, window: Tensor, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    perceptual._visqol.cache_clear()
    perceptual._dnsmos_network.cache_clear()
    late = torch.nn.functional.pad(speech, (40_000, 0))[: len(speech)]  # ViSQOL warns of patches it drops
    for metric in PAIRED:
        metric(late, speech, RATE)
    dnsmos(window[0], RATE)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_no_random_numbers_are_drawn(speech: Tensor, noisy: Tensor) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    once = [metric(noisy[1], speech, RATE).item() for metric in (pesq, stoi, estoi)]
    assert [metric(noisy[1], speech, RATE).item() for metric in (pesq, stoi, estoi)] == once
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("package", ["pesq", "visqol", "onnxruntime"])
def test_a_missing_package_is_named(package: str, speech: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    perceptual._visqol.cache_clear()
    perceptual._dnsmos_network.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    metrics = {"pesq": pesq, "visqol": visqol, "onnxruntime": lambda one, _, rate: dnsmos(one, rate)}
    with pytest.raises(
        ModelError, match=rf"{package}.* is not installed; run: pip install .unweave\[metrics\]"
    ):
        metrics[package](speech, speech, RATE)
