"""BSS Eval against mir_eval and fast_bss_eval, against constructed filters, and where it means nothing."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.bss import BssEval, bss_eval
from unweave.evaluate.metrics.signal import sdr, si_sdr

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def sources() -> Tensor:
    """Three recordings of 2 s."""
    names = ("dog-barking.flac", "rain.flac", "speech.flac")
    clips = [soundfile.read(DATA / name, dtype="float32", frames=64_000)[0] for name in names]
    return torch.from_numpy(np.stack(clips))


@pytest.fixture(scope="module")
def estimates(sources: Tensor) -> Tensor:
    """Each with some of the others, a delay of 5 samples and a hiss."""
    leak = torch.tensor([[1.0, 0.2, 0.01], [0.3, 0.8, 0.0], [0.0, 0.1, 1.0]])
    hiss = torch.randn(sources.shape, generator=torch.Generator().manual_seed(0))
    return (leak @ sources).roll(5, -1) + 1e-3 * hiss


def of_mir_eval(estimates: Tensor, references: Tensor) -> np.ndarray:
    """(3, Q) SDR, SIR and SAR."""
    from mir_eval.separation import bss_eval_sources

    with warnings.catch_warnings():  # it announces its removal in a later version
        warnings.simplefilter("ignore", FutureWarning)
        ratios = bss_eval_sources(
            references.double().numpy(), estimates.double().numpy(), compute_permutation=False
        )
    return np.stack(ratios[:3])


def stacked(ratios: BssEval) -> np.ndarray:
    return torch.stack(ratios).numpy()


def test_agrees_with_mir_eval_to_a_thousandth_of_a_decibel(sources: Tensor, estimates: Tensor) -> None:
    ours = bss_eval(estimates, sources)
    assert ours.sdr.dtype == torch.float64
    np.testing.assert_allclose(stacked(ours), of_mir_eval(estimates, sources), atol=1e-3)


def test_agrees_with_fast_bss_eval(sources: Tensor, estimates: Tensor) -> None:
    """One source at a time: its batched solver depends on how many threads torch was told to use."""
    import fast_bss_eval

    for q in range(3):
        one = slice(q, q + 1)
        theirs = fast_bss_eval.bss_eval_sources(
            sources[one].double(), estimates[one].double(), compute_permutation=False
        )
        ours = bss_eval(estimates[one], sources[one])
        assert ours.sdr.item() == pytest.approx(theirs[0].item(), abs=1e-3)
        assert ours.sar.item() == pytest.approx(theirs[2].item(), abs=1e-3)
        assert ours.sir.item() == math.inf  # with one source, nothing interferes


def test_agrees_with_mir_eval_where_the_upper_half_of_the_band_is_empty(
    sources: Tensor, estimates: Tensor
) -> None:
    """What a narrow-band benchmark looks like: the system is nearly singular."""
    from unweave.audio.resample import resample

    narrow = [resample(resample(part, 32_000, 16_000), 16_000, 32_000) for part in (estimates, sources)]
    np.testing.assert_allclose(stacked(bss_eval(*narrow)), of_mir_eval(*narrow), atol=0.02)


def test_forgives_what_a_filter_of_512_taps_can_do_and_no_more(sources: Tensor) -> None:
    dog = sources[0] * 1.0
    dog[-2000:] = 0  # so that delaying it loses nothing
    echo = -0.4 * dog.roll(300) + 0.7 * dog.roll(511)
    forgiven = bss_eval(torch.stack([echo, sources[1]]), torch.stack([dog, sources[1]]))
    assert si_sdr(echo, dog).item() < 0
    assert forgiven.sdr[0].item() > 90
    late = bss_eval(dog.roll(600)[None], dog[None])
    assert late.sdr.item() < 10


def test_known_interference_and_known_artifacts(sources: Tensor) -> None:
    """Noise that no filter of either source can make is an artifact; the other source is interference."""
    dog, rain = sources[0].double(), sources[1].double()
    noise = torch.randn(dog.shape, generator=torch.Generator().manual_seed(1)).double()
    rain, noise = (part * dog.norm() / part.norm() for part in (rain, noise))
    measured = bss_eval((dog + 0.1 * rain + 0.01 * noise)[None].expand(2, -1), torch.stack([dog, rain]))
    assert measured.sir[0].item() == pytest.approx(20, abs=0.3)
    assert measured.sar[0].item() == pytest.approx(40, abs=0.3)
    assert measured.sir[1].item() < -15  # the same signal as an estimate of rain, which can pass for some dog
    assert measured.sdr[1].item() < -15


def test_gains_do_not_matter(sources: Tensor, estimates: Tensor) -> None:
    expected = stacked(bss_eval(estimates, sources))
    changed = bss_eval(estimates.double() * 1e-200, sources.double() * -1e9)
    np.testing.assert_allclose(stacked(changed), expected, atol=1e-5)


def test_a_silent_reference_is_left_out_and_the_others_measured(sources: Tensor, estimates: Tensor) -> None:
    references = sources.clone()
    references[1] = 0
    measured = stacked(bss_eval(estimates, references))
    assert np.isnan(measured[:, 1]).all()
    np.testing.assert_allclose(
        measured[:, [0, 2]], of_mir_eval(estimates[[0, 2]], sources[[0, 2]]), atol=1e-3
    )


def test_a_silent_estimate_has_no_target_and_touches_no_other(sources: Tensor, estimates: Tensor) -> None:
    silenced = estimates.clone()
    silenced[1] = 0
    measured, whole = bss_eval(silenced, sources), bss_eval(estimates, sources)
    assert measured.sdr[1].item() == -math.inf
    assert measured.sir[1].isnan()
    assert measured.sar[1].isnan()
    np.testing.assert_allclose(stacked(measured)[:, [0, 2]], stacked(whole)[:, [0, 2]], atol=1e-9)


def test_nothing_at_all_is_undefined() -> None:
    assert torch.stack(bss_eval(torch.ones(2, 900), torch.zeros(2, 900))).isnan().all()
    assert bss_eval(torch.zeros(0, 900), torch.zeros(0, 900)).sdr.shape == (0,)


def test_a_perfect_estimate_is_beyond_120_db(sources: Tensor) -> None:
    measured = bss_eval(0.5 * sources, sources)
    assert (torch.stack(measured) > 120).all()


def test_the_same_reference_twice_is_measured_all_the_same(sources: Tensor, estimates: Tensor) -> None:
    """Two queries for one source make the system singular; the twin can explain no more than the target."""
    alone = bss_eval(estimates[:1], sources[:1])
    twice = bss_eval(estimates[[0, 0]], sources[[0, 0]])
    assert twice.sdr.tolist() == pytest.approx([alone.sdr.item()] * 2, abs=1e-3)
    assert (twice.sir > 70).all()


def test_shorter_than_the_filter() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(2, 300, generator=generator)
    mixed = references + 0.3 * torch.randn(2, 300, generator=generator)
    measured, expected = bss_eval(mixed, references), of_mir_eval(mixed, references)
    np.testing.assert_allclose(stacked(measured)[:2], expected[:2], atol=1e-3)
    # 1,024 delayed references span all 811 samples that there are: nothing is left to be an artifact.
    assert (measured.sar > 100).all()


def test_the_number_of_threads_changes_nothing(sources: Tensor, estimates: Tensor, tmp_path: Path) -> None:
    """A batched solve goes wrong once torch.set_num_threads was called, and stays so: hence a new process."""
    np.save(tmp_path / "pair.npy", torch.stack([estimates, sources]).numpy())
    code = (
        "import json, numpy, torch; torch.set_num_threads(2)\n"
        "from unweave.evaluate.metrics.bss import bss_eval\n"
        f"ratios = bss_eval(*torch.from_numpy(numpy.load({str(tmp_path / 'pair.npy')!r})))\n"
        "print(json.dumps(torch.stack(ratios).tolist()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    np.testing.assert_allclose(json.loads(answer), stacked(bss_eval(estimates, sources)), atol=1e-6)


def test_refusals(sources: Tensor) -> None:
    with pytest.raises(UsageError, match="call it once for each mixture"):
        bss_eval(sources[0], sources[0])
    with pytest.raises(UsageError, match=r"estimates and references must have the same shape"):
        bss_eval(sources[:2], sources)
    with pytest.raises(UsageError, match="the references should hold finite samples"):
        bss_eval(sources, sources / 0)


def test_lies_above_the_plain_ratios(sources: Tensor, estimates: Tensor) -> None:
    measured = bss_eval(estimates, sources)
    assert (measured.sdr > si_sdr(estimates, sources)).all()
    assert (measured.sdr > sdr(estimates, sources)).all()
