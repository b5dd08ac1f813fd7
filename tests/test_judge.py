"""Whether a sound is there: the signs on tones, where the answer is known, and what follows from them."""

import json
from pathlib import Path

import pytest
import torch

from tones import PITCH, ToneEars, ToneSplit, fitted
from unweave import hub
from unweave.errors import ModelError, UsageError
from unweave.pipeline import judge
from unweave.pipeline.presence import SIGNS, Presence, shipped
from unweave.pipeline.rig import Rig
from unweave.train import presence
from unweave.types import Query

RATE = 8000


def tone(name: str, level: float = 0.3, seconds: float = 2.0) -> torch.Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return level * torch.sin(2 * torch.pi * PITCH[name] * time)[None]


def signs_of(mixture: torch.Tensor, *names: str) -> list[torch.Tensor]:
    engine, queries = ToneSplit(), [Query(name) for name in names]
    loudest = judge.Loudest(queries, RATE)
    loudest.add(mixture, engine.separate(mixture, queries))
    found = judge.signs(queries, loudest, Rig(engine, "", ToneEars()))
    assert all(sign is not None and sign.shape == (1, len(SIGNS)) for sign in found)
    return [sign[0] for sign in found if sign is not None]


def test_signs_tell_what_is_there_from_what_is_not() -> None:
    mixture = tone("low hum") + tone("whistle", 0.1)
    hum, whistle, cow, ghost = signs_of(mixture, "low hum", "whistle", "cow", "ghost")
    sure = 6.9  # the logit of 0.999
    for there in (hum, whistle):
        assert there[2] > 5, "heard in the stem"
        assert there[3] < -5, "not heard in the rest"
        assert there[4] > 5, "heard in the mixture"
        assert there[5] > 0.95, "found under other words too"
    assert hum[:2].tolist() == pytest.approx([-0.05, -0.05], abs=0.03)
    assert cow[:2].tolist() == [-2, -2], "a twentieth of the magnitude is leakage"
    assert cow[2:5].tolist() == pytest.approx([-sure] * 3, abs=0.1)
    assert ghost.tolist() == pytest.approx([-2, -2, -sure, -sure, -sure, 0], abs=0.01), "a silent stem"


def test_a_query_without_words_is_not_judged() -> None:
    from unweave.types import Audio

    clip = Query(example=Audio(tone("beep"), RATE))
    loudest = judge.Loudest([clip], RATE)
    loudest.add(tone("beep"), tone("beep")[None])
    rig = Rig(ToneSplit(), "", ToneEars())
    assert judge.signs([clip], loudest, rig) == [None]
    before = judge.Verdict(-3.0, -0.0, 0.4)
    assert judge.judged([before], [clip], loudest, rig) == [before]
    with pytest.raises(UsageError, match="listener"):
        judge.signs([clip], loudest, Rig(ToneSplit()))


def flat(mixture: float, stem: float, seconds: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A piece with one value throughout, and the one stem it has."""
    return torch.full((1, round(seconds * RATE)), mixture), torch.full((1, 1, round(seconds * RATE)), stem)


def kept(
    *pieces: tuple[torch.Tensor, torch.Tensor], spans: tuple[tuple[float, float], ...] = ()
) -> list[int]:
    """The numbers of the pieces that one stem is judged by."""
    loudest = judge.Loudest([Query("a", spans=spans)], RATE)
    for mixture, stems in pieces:
        loudest.add(mixture, stems)
    return [excerpt.number for excerpt in loudest.of(0)]


def test_the_loudest_and_the_clearest_piece_are_kept() -> None:
    assert kept(flat(0.4, 0.1), flat(0.8, 0.4), flat(0.3, 0.2)) == [2, 3]
    assert kept(flat(0.4, 0.1), flat(0.5, 0.4), flat(0.8, 0.2)) == [2], "both are one"
    assert kept(flat(1.0, 0.0)) == [], "silent"
    assert kept(flat(1e-4, 1e-4), flat(0.8, 0.4)) == [2], "80 dB below the loudest, shares say nothing"
    assert kept(flat(0.8, 0.4), flat(1e-4, 1e-4)) == [1]
    assert kept(flat(1e-4, 1e-4), flat(0.8, 0.4), flat(0.3, 0.2)) == [2, 3], "and give way to those that do"
    assert kept(flat(0.8, 0.4), flat(0.3, 0.2), flat(0.1, 0.1, seconds=0.1)) == [1, 2], "a short end"
    assert kept(flat(0.2, 0.1, seconds=0.1)) == [1], "there is nothing else"


def test_an_excerpt_lies_within_the_spans() -> None:
    spans = ((0.5, 1.5), (2.25, 2.5), (9.0, 10.0))
    assert kept(flat(1, 0.5), flat(1, 0.7), flat(1, 0.2), flat(1, 1), spans=spans) == [2]
    loudest = judge.Loudest([Query("a", spans=spans)], RATE)
    for mixture, stems in (flat(1, 0.1), flat(1, 0.1), flat(1, 0.9)):
        loudest.add(mixture, stems)
    one = loudest.of(0)[0]
    assert (one.number, one.first, one.last) == (3, RATE // 4, RATE // 2)
    assert one.mixture.shape == one.stem.shape == (1, RATE // 4)
    assert one.share == pytest.approx(0.81)


def test_a_sound_that_is_limited_to_spans_is_judged_there() -> None:
    """Outside of them the same tone goes on; it is no evidence that the stem missed it."""
    from unweave.pipeline.native import Native

    mixture, query = tone("beep", seconds=8.0), Query("beep", spans=((2.0, 5.0),))
    loudest, rig = judge.Loudest([query], RATE), Rig(ToneSplit(), "", ToneEars())
    loudest.add(mixture, Native(ToneSplit(), RATE).separate(mixture, [query]))
    (found,) = judge.signs([query], loudest, rig)
    assert found is not None
    assert found[0, 3] < -3, "not heard in the rest"
    assert found[0, 1] > -0.05, "the stem has all of it"
    assert found[0, 5] > 0.95, "found under other words too"


def test_a_verdict_counts_the_chance_and_else_the_share() -> None:
    assert judge.Verdict(None, None, 0.02).found
    assert not judge.Verdict(None, None, 0.005).found
    assert not judge.Verdict(None, None, 0.005).silenced, "nobody listened"
    doubted = judge.Verdict(None, None, 0.5, presence=0.05, least=0.1)
    assert (doubted.score, doubted.found, doubted.silenced) == (0.05, False, True)


def test_the_regression_that_comes_along_is_sane() -> None:
    found = shipped()
    assert 0 < found.silence <= found.drop < 1
    assert "AUROC" in found.fitted
    for name in (hub.DEFAULT, "listener"):  # fitted anew whenever one of the two changes
        assert hub.WEIGHTS[name].sha256[:12] in found.fitted
    clear = torch.tensor([-0.1, -0.1, 6.0, -6.0, 6.0, 0.95])
    nothing = torch.tensor([-3.0, -3.0, -6.0, -6.0, -6.0, 0.0])
    assert found.chance(clear) > 0.95
    assert found.chance(nothing) < found.silence
    with pytest.raises(UsageError, match="6 signs"):
        Presence((1.0,), 0.0, 0.1, 0.2, "")


def test_a_damaged_regression_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FOLDER", tmp_path)
    shipped.cache_clear()
    try:
        with pytest.raises(ModelError, match="reinstall"):
            shipped()
        (tmp_path / "presence.json").write_text(json.dumps({"weights": [1.0]}))
        with pytest.raises(ModelError, match="reinstall"):
            shipped()
    finally:
        shipped.cache_clear()


def test_what_is_fitted_on_tones_tells_tones_apart() -> None:
    found = fitted()
    there, absent = torch.stack(signs_of(tone("beep") + tone("low hum"), "beep", "cow"))
    assert found.chance(there) > 0.9
    assert found.chance(absent) < found.silence


def drawn(count: int, weights: torch.Tensor, bias: float) -> presence.Signs:
    """Questions whose answers follow a regression that is known."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(count, len(SIGNS), generator=draw, dtype=torch.float64)
    chance = (values @ weights + bias).sigmoid()
    there = torch.rand(count, generator=draw, dtype=torch.float64) < chance
    return presence.Signs(values, there, torch.arange(count) // 4)


def test_fitting_finds_the_weights_that_answers_were_drawn_with() -> None:
    true = torch.tensor([1.0, -0.5, 2.0, 0.0, 0.7, -1.2], dtype=torch.float64)
    signs = drawn(20_000, true, 0.4)
    weights, bias = presence.fit(signs)
    assert weights.tolist() == pytest.approx(true.tolist(), abs=0.1)
    assert bias == pytest.approx(0.4, abs=0.1)
    chances = presence.unseen_chances(signs)
    told = presence.report(chances, signs.there, 0.1)
    assert float(told.split()[1]) > 0.9
    for line in told.splitlines()[4:]:
        low, share = float(line.split()[0]), float(line.split()[-1])
        assert low - 0.05 <= share <= low + 0.15, "said and true chances agree"


def test_the_drop_threshold_is_where_f1_is_highest() -> None:
    there = torch.tensor([True] * 6 + [False] * 6)
    chances = torch.tensor([0.9, 0.9, 0.8, 0.8, 0.7, 0.65, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    signs = presence.Signs(torch.zeros(12, 6), there, torch.arange(12))
    assert 0.5 < presence.best_drop(chances, signs) <= 0.65
