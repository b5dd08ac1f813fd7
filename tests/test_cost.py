"""What an engine costs: counts that are known, and subjects whose cost was built in."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from unweave import hub, separators
from unweave.errors import ModelError, UsageError
from unweave.evaluate.metrics import cost
from unweave.evaluate.metrics.cost import Subject, measure, multiply_adds, parameters

MEGABYTE = 2**20
RESUNET30 = 26_447_941  # AudioSep's paper says 26.45 million


def heavy(megabytes: int) -> Subject:
    """Holds so much memory, takes half a second to load and 0.1 s to work, and multiplies 300 by 200 once."""
    time.sleep(0.5)
    ballast = torch.ones(megabytes * MEGABYTE // 4)
    layer = nn.Linear(300, 200, bias=False)

    def work(mixture: Tensor) -> Tensor:
        time.sleep(0.1)
        assert mixture.shape == (1, 400)
        return layer(mixture[:, :300]) + ballast[0]

    return Subject(work, 1_000, (layer, layer))


def broken() -> Subject:
    raise ValueError("there is no such subject")


def test_parameters_are_counted_once() -> None:
    shared = nn.Linear(10, 10)
    assert parameters(nn.Sequential(shared, nn.ReLU(), shared, nn.Conv1d(4, 6, 3))) == 110 + 78
    network = separators.load(hub.DEFAULT, "cpu").network
    assert parameters(network) == hub.WEIGHTS[hub.DEFAULT].parameters


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(3, 2), (5, 3), 5 * 3 * 2),
        (nn.Conv1d(2, 3, 5), (1, 2, 20), 16 * 3 * 2 * 5),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (2, 4, 8, 8), 2 * 16 * 8 * 2 * 9),
        (nn.ConvTranspose1d(2, 3, 4, stride=2), (1, 2, 10), 10 * 2 * 3 * 4),
        # Queries, keys and values, the sums over 7 tokens, the projection, and two layers of 16.
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
            (1, 7, 8),
            7 * (8 * 24 + 2 * 7 * 8 + 8 * 8 + 2 * 8 * 16),
        ),
        (nn.Softmax(-1), (5, 3), 0),
    ],
)
def test_multiplications_are_those_of_the_formula(
    module: nn.Module, shape: tuple[int, ...], expected: int
) -> None:
    samples = torch.ones(shape)
    assert multiply_adds(module, samples) == expected
    with torch.inference_mode():
        assert multiply_adds(lambda: module(samples)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_multiplications_of_the_engine_agree_with_torchs_profiler() -> None:
    subject = cost.engine()
    noise = torch.randn(1, 2 * subject.sample_rate, generator=torch.Generator().manual_seed(0))
    subject.work(noise)  # the words are encoded once
    ours = multiply_adds(subject.work, noise)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True, record_shapes=True) as found:
        subject.work(noise)
    counted = {"aten::conv2d", "aten::addmm", "aten::mm", "aten::bmm"}
    theirs = sum(event.flops for event in found.key_averages() if event.key in counted)
    assert ours == pytest.approx(theirs / 2, rel=1e-3)
    assert multiply_adds(cost.engine(queries=2).work, noise) > 1.2 * ours


def test_the_first_call_is_not_timed_and_the_middle_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lasts = 0.0, iter([100.0, 1.0, 9.0, 3.0])

    def work() -> None:
        nonlocal now
        now += next(lasts)

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    assert cost.seconds_taken(work, repeats=3) == 3.0


def test_a_subject_is_measured_in_its_own_process() -> None:
    found = measure("test_cost:heavy", [300], seconds=0.4, threads=1, repeats=2)
    assert 300 < found.megabytes < 1_500
    assert found.start_up >= 0.5
    assert found.seconds_per_second >= 0.1 / 0.4
    assert found.parameters == 2 * 60_000
    assert found.multiply_adds == pytest.approx(60_000 / 0.4)


def test_an_engine_is_measured_without_a_word_about_how(tiny: Path) -> None:
    found = measure(arguments=[str(tiny)], seconds=1.0, repeats=1)
    engine = separators.load(str(tiny), "cpu")
    assert found.parameters == parameters(engine.network)
    subject = cost.engine(str(tiny))
    noise = torch.zeros(1, subject.sample_rate)
    noise[0, 0] = 1  # silence would be answered without asking the network
    subject.work(noise)
    assert found.multiply_adds == multiply_adds(subject.work, noise)
    assert found.start_up > 0
    assert found.seconds_per_second > 0


@pytest.mark.parametrize("subject", [cost.resunet30, cost.stft_round_trip])
def test_other_subjects_work(subject) -> None:
    one = subject()
    with torch.inference_mode():
        one.work(torch.ones(1, 8_000))
    assert sum(map(parameters, one.networks)) == (RESUNET30 if subject is cost.resunet30 else 0)


def test_the_engine_may_be_asked_as_a_file_would(tiny: Path) -> None:
    subject = cost.engine(str(tiny), queries=2, native_rate=44_100)
    assert subject.sample_rate == 44_100
    answer = subject.work(torch.ones(1, 4_410))
    assert isinstance(answer, Tensor)
    assert answer.shape == (2, 1, 4_410)


def test_what_goes_wrong_is_said() -> None:
    with pytest.raises(
        ModelError, match=r"test_cost:broken\(\) failed: ValueError: there is no such subject"
    ):
        measure("test_cost:broken")
    with pytest.raises(UsageError, match="'engine'"):
        measure("engine")
    with pytest.raises(UsageError, match="0"):
        measure(seconds=0)
    with pytest.raises(UsageError, match="got 3"):
        cost.engine(queries=3)
