"""Open-world metrics against other implementations, constructed answers, and where they mean nothing."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unweave.errors import UsageError
from unweave.evaluate.metrics.openworld import (
    class_aware_sdri,
    consistency_error_db,
    count_accuracy,
    delay_samples,
    label_f1,
    presence_auroc,
    same_words,
    seam_error_db,
    similarity_by,
    surplus_outputs,
    wrong_target,
)
from unweave.evaluate.metrics.signal import sdr
from unweave.signal.mixing import mix_at_snr

DATA = Path(__file__).parent / "data"
RATE = 32_000


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, Tensor, Tensor]:
    names = ("dog-barking.flac", "rain.flac", "speech.flac")
    dog, rain, speech = (
        torch.from_numpy(soundfile.read(DATA / name, dtype="float32", frames=64_000)[0]) for name in names
    )
    return dog, rain, speech


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_class_aware_sdri_counts_misses_and_false_alarms_as_zero(clips: tuple[Tensor, ...]) -> None:
    from torchmetrics.functional.audio import signal_noise_ratio

    dog, rain, speech = clips
    mixture = dog + rain + speech
    estimates = {"dog": dog + 0.1 * rain, "rain": rain + 0.3 * speech, "siren": speech}
    references = {"dog": dog, "rain": rain, "speech": speech}
    gains = [
        signal_noise_ratio(estimates[label].double(), references[label].double())
        - signal_noise_ratio(mixture.double(), references[label].double())
        for label in ("dog", "rain")
    ]
    expected = sum(gains) / 4  # dog and rain; speech is missed, the siren is invented
    assert class_aware_sdri(estimates, references, mixture).item() == pytest.approx(expected.item(), abs=1e-3)


def test_class_aware_sdri_of_every_channel_and_of_nothing(clips: tuple[Tensor, ...]) -> None:
    dog, rain, _ = clips
    mixture = torch.stack([dog + rain, dog + 0.1 * rain])
    found = class_aware_sdri(
        {"dog": torch.stack([dog + 0.1 * rain] * 2)}, {"dog": dog.expand(2, -1)}, mixture
    )
    assert found.tolist() == pytest.approx([20, 0], abs=1e-3)
    assert class_aware_sdri({"cat": dog}, {}, dog + rain).item() == 0
    assert class_aware_sdri({}, {"cat": dog}, dog + rain).item() == 0
    assert math.isnan(class_aware_sdri({}, {}, dog + rain).item())
    assert math.isnan(class_aware_sdri({"cat": dog}, {"cat": torch.zeros_like(dog)}, dog + rain).item())
    with pytest.raises(UsageError, match="'cat'"):
        class_aware_sdri({"cat": dog * math.nan}, {}, dog + rain)
    with pytest.raises(UsageError, match="shape"):
        class_aware_sdri({"cat": dog[:-1]}, {}, dog + rain)


def test_surplus_outputs_counts_what_is_heard(clips: tuple[Tensor, ...]) -> None:
    dog, rain, speech = (one / one.square().mean().sqrt() for one in clips)
    sources = torch.stack([dog, 0.5 * rain, torch.zeros_like(dog)])  # one that does not sound is not counted
    assert surplus_outputs(torch.stack([dog + 0.5 * rain, 0.04 * speech]), sources) == -1
    assert surplus_outputs(torch.stack([dog + 0.5 * rain, 0.06 * speech]), sources) == 0  # 0.05 is the border
    assert surplus_outputs(torch.stack([dog, 0.2 * rain, 0.3 * rain]), sources) == 1
    channels = surplus_outputs(
        torch.stack([dog.expand(2, -1), torch.stack([rain, 0 * rain])]), torch.stack([dog.expand(2, -1)] * 2)
    )
    assert channels.tolist() == [0, -1]
    assert surplus_outputs(dog[None], 0 * dog[None]).isnan()
    with pytest.raises(UsageError, match="hand in"):
        surplus_outputs(dog[None], dog[None, :-1])


def test_count_accuracy() -> None:
    found = count_accuracy(torch.tensor([[0, 3], [2, 2]]), torch.tensor([[0, 2], [3, 2]]))
    assert found.tolist() == [[1, 0], [0, 1]]
    assert found.dtype == torch.float64
    with pytest.raises(UsageError, match=r"predicted ones are \[1.5\]"):
        count_accuracy(torch.tensor([1.5]), torch.tensor([1]))
    with pytest.raises(UsageError, match=r"got \(2,\) and \(1,\)"):
        count_accuracy(torch.tensor([1, 2]), torch.tensor([1]))


@pytest.mark.parametrize("shape", [(1, 1), (2, 4), (4, 2), (3, 3), (4, 4)])
def test_labels_pair_up_as_the_best_of_all_ways(shape: tuple[int, int]) -> None:
    """Against every possible matching, for 20 random tables of similarities."""
    predicted, true = ([f"{side}{i}" for i in range(count)] for side, count in zip("pt", shape, strict=True))
    for seed in range(20):
        values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()
        worth = torch.where(values >= 0.5, values, 0.0)
        wide = worth if shape[0] <= shape[1] else worth.T
        best = max(
            sum(float(wide[row, column]) for row, column in enumerate(columns))
            for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        found = label_f1(predicted, true, lambda *_, values=values: values, threshold=0.5)
        rows, columns = zip(*found.pairs, strict=True) if found.pairs else ((), ())
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert all(values[pair] >= 0.5 for pair in found.pairs)
        assert sum(float(values[pair]) for pair in found.pairs) == pytest.approx(best)
        assert found.precision == pytest.approx(len(rows) / shape[0])
        assert found.recall == pytest.approx(len(rows) / shape[1])
        if found.pairs:
            harmonic = 2 * found.precision * found.recall / (found.precision + found.recall)
            assert found.f1 == pytest.approx(harmonic)


def test_a_pair_below_the_threshold_does_not_push_out_one_above() -> None:
    table = torch.tensor([[0.9, 0.69], [0.69, 0.1]])  # 0.69 twice sums to more than 0.9 and 0.1
    assert label_f1(["a", "b"], ["c", "d"], lambda *_: table, threshold=0.7).pairs == ((0, 0),)
    assert label_f1(["a", "b"], ["c", "d"], lambda *_: table, threshold=0.6).pairs == ((0, 1), (1, 0))


def test_labels_in_other_words() -> None:
    from unweave.encoders.minilm import MiniLM

    similarity = similarity_by(MiniLM())
    found = label_f1(["barking dog", "rainfall", "violin"], ["rain", "dog barking"], similarity)
    assert found.pairs == ((0, 1), (1, 0))
    assert found.f1 == pytest.approx(0.8)
    assert similarity(["rain"], ["rain"]).item() == pytest.approx(1, abs=1e-5)
    assert label_f1(["barking dog", "rainfall"], ["rain", "dog barking"], same_words).f1 == 0


def test_labels_where_there_are_none() -> None:
    assert label_f1([" Rain"], ["rain "], same_words).f1 == 1
    missed = label_f1([], ["rain"], same_words)
    assert (missed.recall, missed.f1, missed.pairs) == (0, 0, ())
    assert math.isnan(missed.precision)
    invented = label_f1(["rain"], [], same_words)
    assert (invented.precision, invented.f1) == (0, 0)
    assert math.isnan(invented.recall)
    assert math.isnan(label_f1([], [], same_words).f1)
    assert label_f1(["rain", "rain"], ["rain"], same_words).precision == 0.5
    with pytest.raises(UsageError, match=r"gave \(1, 2\) values"):
        label_f1(["a"], ["b"], lambda *_: torch.zeros(1, 2))
    with pytest.raises(UsageError, match="threshold 0"):
        label_f1(["a"], ["b"], same_words, threshold=0)


@pytest.mark.parametrize("levels", [2, 5, 1000])  # how many different scores: the fewer, the more ties
def test_presence_agrees_with_scikit_learn(levels: int) -> None:
    from sklearn.metrics import roc_auc_score

    draw = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (400,), generator=draw).float() / 3
    present = torch.rand(400, generator=draw) < 0.3 + 0.4 * scores / scores.max()
    expected = roc_auc_score(present.numpy(), scores.numpy())
    assert 0.55 < expected < 0.95
    assert presence_auroc(scores, present).item() == pytest.approx(expected, abs=1e-12)
    assert presence_auroc(-scores, present).item() == pytest.approx(1 - expected, abs=1e-12)


def test_presence_where_it_means_nothing() -> None:
    both = torch.tensor([True, False])
    assert presence_auroc(torch.tensor([math.inf, -math.inf]), both).item() == 1
    assert math.isnan(presence_auroc(torch.tensor([1.0, 2.0]), torch.tensor([True, True])).item())
    assert math.isnan(presence_auroc(torch.tensor([1.0, 2.0]), torch.tensor([False, False])).item())
    with pytest.raises(UsageError, match="NaN"):
        presence_auroc(torch.tensor([math.nan, 1.0]), both)
    with pytest.raises(UsageError, match="bool"):
        presence_auroc(torch.tensor([1.0, 2.0]), torch.tensor([1, 0]))


def test_wrong_target(clips: tuple[Tensor, ...]) -> None:
    dog, rain, speech = clips
    rain, speech = rain * dog.std() / rain.std(), speech * dog.std() / speech.std()
    answers = torch.stack([dog + 0.9 * rain, 0.9 * dog + rain, -7 * speech, torch.zeros_like(dog)])
    references, others = dog.expand_as(answers), torch.stack([rain, speech])[:, None].expand(2, 4, -1)
    assert wrong_target(answers, references, others).tolist() == [0, 1, 1, 0]
    silent = torch.zeros_like(others)
    assert wrong_target(answers, references, silent).tolist() == [0, 0, 0, 0]
    assert wrong_target(answers, references, others[:0]).tolist() == [0, 0, 0, 0]
    assert wrong_target(dog, torch.zeros_like(dog), others[:, 0]).isnan()
    with pytest.raises(UsageError, match="others"):
        wrong_target(dog, dog, others[:, 0] * math.inf)


def test_consistency_error_is_what_the_stems_miss(clips: tuple[Tensor, ...]) -> None:
    dog, rain, speech = clips
    mixture = dog + rain + speech
    missing = consistency_error_db(torch.stack([dog, speech]), mixture)
    assert missing.item() == pytest.approx(-sdr(mixture - rain, mixture).item(), abs=1e-3)
    assert consistency_error_db(torch.stack([0.9 * mixture, 0 * mixture]), mixture).item() == pytest.approx(
        -20, abs=1e-3
    )
    assert consistency_error_db(torch.stack([dog, rain, speech]), mixture).item() < -130
    assert consistency_error_db(mixture[None], mixture).item() == -math.inf
    assert consistency_error_db(torch.zeros(2, 64_000), mixture).item() == 0
    assert consistency_error_db(dog[None], 0 * dog).isnan()
    stereo = torch.stack([dog, rain]).expand(3, 2, -1)  # three stems, each of a third: nothing is missing
    assert (consistency_error_db(stereo / 3, torch.stack([dog, rain])) < -130).all()
    with pytest.raises(UsageError, match=r"got \(2, 64000\) and \(1, 64000\)"):
        consistency_error_db(torch.zeros(2, 64_000), mixture[None])
    with pytest.raises(UsageError, match="mixture"):
        consistency_error_db(dog[None], dog * math.nan)


def test_a_seam_is_as_loud_as_its_click() -> None:
    """Errors of 0.01 within 20 ms of borders and 0.001 elsewhere: 20 dB, wherever the borders are."""
    whole = noise(2, 4 * RATE)
    borders = [RATE, 2 * RATE + 17]
    error = torch.full((4 * RATE,), 1e-3, dtype=torch.float64)
    for border in borders:
        error[border - 640 : border + 640] = 1e-2
    seams = seam_error_db(whole.double() + error, whole, borders, RATE)
    assert seams.tolist() == pytest.approx([20, 20], abs=1e-3)
    assert seam_error_db(whole + 0.1, whole, borders, RATE).tolist() == pytest.approx([0, 0], abs=1e-3)
    elsewhere = seam_error_db(whole.double() + error, whole, [3 * RATE], RATE)
    assert elsewhere.tolist() == pytest.approx(
        [-10 * math.log10((2560e-4 + 124_160e-6) / 126_720 / 1e-6)] * 2, abs=1e-3
    )
    narrow = seam_error_db(whole.double() + error, whole, borders, RATE, radius=0.01)
    assert (narrow < seams).all()  # half of the click counts as elsewhere


def test_seams_where_there_is_nothing_to_compare() -> None:
    whole = noise(RATE)
    click = whole.clone()
    click[16_000] += 0.5
    assert seam_error_db(click, whole, [16_000], RATE).item() == math.inf
    assert seam_error_db(click, whole, [8_000], RATE).item() == -math.inf
    rounded = whole.double() + 1e-8 * noise(RATE, seed=1)  # 160 dB down
    assert seam_error_db(rounded, whole, [16_000], RATE).isnan()
    assert seam_error_db(click, whole, [], RATE).isnan()
    assert seam_error_db(click, whole, [16_000], RATE, radius=1).isnan()
    with pytest.raises(UsageError, match="32000"):
        seam_error_db(click, whole, [32_000], RATE)
    with pytest.raises(UsageError, match="whole"):
        seam_error_db(click, whole * math.nan, [16_000], RATE)


@pytest.mark.parametrize("shift", [0, 1, -1, 123, -4_567, 16_000, -16_000])
@pytest.mark.parametrize("gain", [1.0, -0.001])
def test_delay_is_found_at_any_level_and_polarity(clips: tuple[Tensor, ...], shift: int, gain: float) -> None:
    dog, rain, _ = clips
    padded = torch.nn.functional.pad(dog, (20_000, 20_000))
    estimate, _ = mix_at_snr(padded.roll(shift), torch.nn.functional.pad(rain, (20_000, 20_000)), 0)
    assert delay_samples(gain * estimate + 0.1, padded).item() == shift


def test_delay_agrees_with_scipy_and_stays_within_reach(clips: tuple[Tensor, ...]) -> None:
    from scipy.signal import correlate, correlation_lags

    _, rain, speech = clips
    both = torch.stack([speech.roll(9_000) + rain, rain])
    found = delay_samples(both, speech.expand(2, -1))
    assert found.shape == (2,)
    for one, lag in zip(both, found.tolist(), strict=True):
        theirs = np.abs(correlate(*(x.double().numpy() - x.double().mean().item() for x in (one, speech))))
        lags = correlation_lags(len(one), len(speech))
        theirs[np.abs(lags) > 16_000] = 0
        assert lags[theirs.argmax()] == lag
    assert delay_samples(speech.roll(300), speech, longest=400).item() == 300
    assert abs(delay_samples(speech.roll(300), speech, longest=200).item()) <= 200


def test_delay_where_it_means_nothing() -> None:
    sound, silence = noise(1_000), torch.zeros(1_000)
    assert delay_samples(sound, silence).isnan()
    assert delay_samples(silence + 0.3, sound).isnan()
    assert delay_samples(sound[:0], sound[:0]).isnan()
    for early, late, nearest in ((-150, 250, -150), (-250, 150, 150), (-3, 400, -3), (-400, 3, 3)):
        click, clicks = torch.zeros(1_000), torch.zeros(1_000)
        click[[450, 451]] = torch.tensor([1.0, -1.0])  # without a mean, so that both fit equally well
        for shift in (early, late):
            clicks += click.roll(shift)
        assert delay_samples(clicks, click).item() == nearest
    with pytest.raises(UsageError, match="estimate"):
        delay_samples(sound * math.inf, sound)
    with pytest.raises(UsageError, match="shape"):
        delay_samples(sound, sound[:-1])
