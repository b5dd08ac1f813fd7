"""Intervals against the formula that a normal sample has, and against what pairing and clustering must do."""

import math

import pytest
import torch

from unweave.evaluate import statistics
from unweave.evaluate.statistics import difference, estimate


@pytest.fixture(scope="module")
def sample() -> list[float]:
    return (3 + 2 * torch.randn(400, generator=torch.Generator().manual_seed(1))).tolist()


def test_the_interval_of_a_normal_sample_is_the_analytic_one(sample: list[float]) -> None:
    found = estimate(sample, range(400))
    values = torch.tensor(sample, dtype=torch.float64)
    half = float(1.959964 * values.std() / 20)  # 20 = sqrt(400)
    assert found.mean == pytest.approx(values.mean().item(), abs=1e-12)
    assert found.median == pytest.approx(values.quantile(0.5).item(), abs=1e-12)
    assert found.low == pytest.approx(float(values.mean()) - half, abs=0.06 * half)
    assert found.high == pytest.approx(float(values.mean()) + half, abs=0.06 * half)
    assert found.half_width == pytest.approx(half, rel=0.06)
    assert (found.count, found.undefined) == (400, 0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """95 % of 200 samples, give or take three standard deviations of a count."""
    draw = torch.Generator().manual_seed(2)
    hits = 0
    for seed in range(200):
        values = torch.randn(60, generator=draw).tolist()
        found = estimate(values, range(60), seed)
        hits += found.low <= 0 <= found.high
    assert abs(hits - 190) <= 3 * math.sqrt(200 * 0.95 * 0.05) + 2  # percentile intervals are a little narrow


def test_answers_of_one_mixture_are_drawn_together(sample: list[float]) -> None:
    """Saying everything four times is no news: the interval must not shrink."""
    once = estimate(sample, range(400))
    mixtures = [index for index in range(400) for _ in range(4)]
    four = estimate([value for value in sample for _ in range(4)], mixtures)
    assert (four.low, four.high) == pytest.approx((once.low, once.high))
    alone = estimate([value for value in sample for _ in range(4)], range(1600))
    assert alone.half_width == pytest.approx(once.half_width / 2, rel=0.08)


def test_mixtures_with_more_answers_weigh_more() -> None:
    found = estimate([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"])
    assert found.mean == 1.0
    assert (found.low, found.high) == (0.0, 4.0)
    many = estimate([0.0] * 450 + [1.0] * 50, [n // 9 for n in range(450)] + list(range(50, 100)))
    assert many.mean == pytest.approx(0.1)
    assert many.low < 0.1 < many.high < 0.2  # the mean of the mixtures' means would be 0.5


def test_seed_and_not_order_decides(sample: list[float]) -> None:
    here = estimate(sample, range(400), seed=5)
    backwards = estimate(sample[::-1], range(399, -1, -1), seed=5)
    assert here == backwards
    assert estimate(sample, range(400), seed=6).low != here.low


def test_the_undefined_is_counted_and_left_out() -> None:
    found = estimate([1.0, math.nan, 3.0, math.inf, -math.inf], range(5))
    assert (found.mean, found.median, found.count, found.undefined) == (2.0, 2.0, 2, 3)
    nothing = estimate([math.nan], [0])
    assert (nothing.count, nothing.undefined) == (0, 1)
    assert math.isnan(nothing.mean)
    one = estimate([1.0, 2.0], ["a", "a"])
    assert one.mean == 1.5
    assert math.isnan(one.low)  # one mixture says nothing about others


def test_pairing_cancels_what_both_share(sample: list[float]) -> None:
    noise = (0.1 * torch.randn(400, generator=torch.Generator().manual_seed(3))).tolist()
    better = [value + 0.5 + change for value, change in zip(sample, noise, strict=True)]
    gain = difference(better, sample, range(400))
    assert gain.mean == pytest.approx(0.5, abs=0.02)
    assert 0.45 < gain.low < gain.high < 0.55
    assert gain.half_width < estimate(better, range(400)).half_width / 10
    same = difference(sample, sample, range(400))
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert difference([1.0, math.nan], [math.nan, 2.0], range(2)).undefined == 2


def test_memory_is_bounded_and_the_result_is_not_changed_by_it(
    sample: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = estimate(sample, range(400))
    monkeypatch.setattr(statistics, "_AT_ONCE", 400 * 7)
    pieces = estimate(sample, range(400))
    assert (pieces.low, pieces.high) == (whole.low, whole.high)
