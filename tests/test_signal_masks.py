"""Masks over bins and over time, on cases whose answer is known."""

import pytest
import torch

from unweave.errors import UsageError
from unweave.signal.masks import ratio_mask, share, span_gain


def test_ratio_masks_of_both_sides_hold_all_the_power() -> None:
    draw = torch.Generator().manual_seed(0)
    target, rest = torch.rand(5, 7, generator=draw), torch.rand(5, 7, generator=draw)
    both = ratio_mask(target, rest).square() + ratio_mask(rest, target).square()
    assert torch.allclose(both, torch.ones(5, 7), atol=1e-6)


def test_ratio_mask_of_silence_is_closed() -> None:
    assert ratio_mask(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]


def test_share_leaves_room_alone_and_divides_a_crowd() -> None:
    masks = torch.tensor([[0.2, 1.0, 0.0], [0.3, 1.0, 0.0], [1.0, 1.0, 1.0]])[:, :, None]
    before = masks.clone()

    shared = share(masks, torch.tensor([True, True, False]))

    assert torch.allclose(shared[:, :, 0], torch.tensor([[0.2, 0.5, 0.0], [0.3, 0.5, 0.0], [1.0, 1.0, 1.0]]))
    assert torch.equal(masks, before), "the masks handed in were changed"


def test_share_of_random_masks_never_exceeds_what_there_is() -> None:
    masks = torch.rand(6, 20, 30, generator=torch.Generator().manual_seed(0))
    shared = share(masks, torch.ones(6, dtype=torch.bool))
    assert shared.sum(0).max() <= 1 + 1e-6
    assert (shared <= masks).all()


def test_share_of_none_or_one() -> None:
    one = torch.rand(1, 2, 3)
    assert torch.equal(share(one, torch.tensor([True])), one)
    assert share(torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.bool)).shape == (0, 2, 3)


def test_share_wants_a_truth_value_for_each_mask() -> None:
    with pytest.raises(UsageError, match="keep wants 2 bools"):
        share(torch.zeros(2, 3, 3), torch.tensor([True]))


def test_span_gain_is_open_inside_and_shut_outside() -> None:
    rate, fade = 1000, 0.02
    gain = span_gain([(0.5, 0.7), (0.9, 1.2)], length=1500, sample_rate=rate, fade=fade)
    assert (gain[500:701] == 1).all()
    assert (gain[900:1201] == 1).all()
    assert (gain[:480] == 0).all()
    assert (gain[721:880] == 0).all()
    assert (gain[1221:] == 0).all()
    assert (gain[480:500].diff() > 0).all()
    assert gain[490].item() == pytest.approx(0.5, abs=1e-6)  # half way up, half the gain


def test_span_gain_at_the_edges_of_the_recording() -> None:
    assert (span_gain([(0, 9)], length=100, sample_rate=100) == 1).all()
    assert (span_gain([(5, 9)], length=100, sample_rate=100) == 0).all()
    assert span_gain([(5, 9)], length=0, sample_rate=100).shape == (0,)
    assert (span_gain((), length=100, sample_rate=100) == 1).all()


def test_close_spans_meet_at_the_higher_gain() -> None:
    gain = span_gain([(0.30, 0.50), (0.51, 0.60), (0.35, 0.40)], length=1000, sample_rate=1000)
    assert gain[300:601].min() > 0.8
    assert gain[350:401].min() == 1


def test_no_fade_cuts_hard() -> None:
    assert span_gain([(0.2, 0.4)], length=6, sample_rate=10, fade=0).tolist() == [0, 0, 1, 1, 1, 0]
