"""The contract of every engine there is or will be, on its published weights."""

import pytest
import torch

from unweave import hub, separators
from unweave.errors import UnknownNameError
from unweave.types import Query, Separator


@pytest.fixture(
    scope="module", params=[name for name, one in sorted(hub.WEIGHTS.items()) if one.engine != "listener"]
)
def separator(request: pytest.FixtureRequest) -> Separator:
    return separators.load(request.param, "cpu")


def test_every_engine_has_weights() -> None:
    assert {weights.engine for weights in hub.WEIGHTS.values()} <= {*separators.available(), "listener"}
    assert hub.DEFAULT in hub.WEIGHTS


def test_contract(separator: Separator) -> None:
    mixture = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0)) * 0.1
    before = mixture.clone()
    queries = [Query("dog"), Query("rain"), Query("rain", keep=False)]

    estimates = separator.separate(mixture, queries)

    assert estimates.shape == (3, 2, 20_000)
    assert torch.isfinite(estimates).all()
    assert torch.equal(mixture, before), "input was modified"
    assert torch.equal(estimates, separator.separate(mixture, queries)), "not repeatable"
    swapped = separator.separate(mixture, queries[1::-1])
    assert torch.allclose(swapped, estimates[:2].flip(0), atol=1e-5), "not in the order of the queries"


def test_gain_of_the_mixture_is_gain_of_the_answer(separator: Separator) -> None:
    mixture = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0)) * 0.1
    (plain,) = separator.separate(mixture, [Query("rain")])
    (quiet,) = separator.separate(mixture / 8, [Query("rain")])
    assert torch.allclose(quiet * 8, plain, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 1023])
def test_short_and_silent(separator: Separator, length: int) -> None:
    for mixture in (torch.zeros(1, length), torch.ones(3, length) * 0.1):
        estimates = separator.separate(mixture, [Query("rain")])
        assert estimates.shape == (1, *mixture.shape)
        assert torch.isfinite(estimates).all()


def test_a_listener_is_no_separator() -> None:
    with pytest.raises(UnknownNameError, match="no engine named 'listener'"):
        separators.load("listener", "cpu")
