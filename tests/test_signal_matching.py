"""Assignments: the best of all of them, found without looking at all of them."""

import itertools
import math
from pathlib import Path

import pytest
import soundfile
import torch

from unweave.errors import UsageError
from unweave.evaluate.metrics.signal import si_sdr
from unweave.signal.matching import assign, match

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (5, 5), (6, 6), (3, 6), (1, 5)])
@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_best_of_all(rows: int, columns: int, seed: int) -> None:
    scores = (
        torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10
    )

    chosen = assign(scores)

    best = max(
        sum(scores[row, column].item() for row, column in enumerate(columns_of))
        for columns_of in itertools.permutations(range(columns), rows)
    )
    assert len(set(chosen)) == rows
    assert sum(scores[row, column].item() for row, column in enumerate(chosen)) == pytest.approx(best)


def test_large_constructed_permutation_is_found() -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    scores = torch.rand(60, 60, generator=torch.Generator().manual_seed(1))
    scores[torch.arange(60), order] += 2
    assert assign(scores) == tuple(order.tolist())


def test_ties_and_infinities() -> None:
    assert sorted(assign(torch.zeros(4, 4))) == [0, 1, 2, 3]
    assert assign(torch.tensor([[math.inf, 5.0], [math.inf, -math.inf]])) == (1, 0)
    assert assign(torch.zeros(0, 3)) == ()


def test_what_cannot_be_assigned_is_refused() -> None:
    with pytest.raises(UsageError, match="a column for every row"):
        assign(torch.zeros(3, 2))
    with pytest.raises(UsageError, match="NaN"):
        assign(torch.tensor([[0.0, math.nan], [1.0, 2.0]]))


def test_shuffled_recordings_find_their_references() -> None:
    names = ("dog-barking", "rain", "speech", "clock-ticking")
    references = torch.stack(
        [
            torch.from_numpy(soundfile.read(DATA / f"{name}.flac", dtype="float32", frames=64_000)[0])[None]
            for name in names
        ]
    )
    # Every estimate leaks the next sound, louder than itself for the quiet ones.
    estimates = (references + 0.3 * references.roll(1, dims=0))[[2, 0, 3, 1]]

    found = match(estimates, references, si_sdr)

    assert found == (1, 3, 0, 2)
