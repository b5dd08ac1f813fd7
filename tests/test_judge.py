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


def signs_of(mixture: torch.Tensor, *names: str) -> list[torch.Tensor | None]:
    engine, queries = ToneSplit(), [Query(name) for name in names]
    loudest = judge.Loudest(len(names))
    loudest.add(mixture, engine.separate(mixture, queries))
    return judge.signs(queries, loudest, Rig(engine, "", ToneEars()), RATE)


def test_signs_tell_what_is_there_from_what_is_not() -> None:
    mixture = tone("low hum") + tone("whistle", 0.1)
    hum, whistle, cow, ghost = signs_of(mixture, "low hum", "whistle", "cow", "ghost")
    sure = 6.9  # the logit of 0.999
    for there in (hum, whistle):
        assert there is not None
        assert there[2] > 5, "heard in the stem"
        assert there[3] < -5, "not heard in the rest"
        assert there[4] > 5, "heard in the mixture"
        assert there[5] > 0.95, "found under other words too"
    assert hum is not None
    assert hum[:2].tolist() == pytest.approx([-0.05, -0.05], abs=0.03)
    assert cow is not None
    assert cow[:2].tolist() == [-2, -2], "a twentieth of the magnitude is leakage"
    assert cow[2:5].tolist() == pytest.approx([-sure] * 3, abs=0.1)
    assert ghost is not None
    assert ghost.tolist() == pytest.approx([-2, -2, -sure, -sure, -sure, 0], abs=0.01), "a silent stem"


def test_a_query_without_words_is_not_judged() -> None:
    from unweave.types import Audio

    clip = Query(example=Audio(tone("beep"), RATE))
    loudest = judge.Loudest(1)
    loudest.add(tone("beep"), tone("beep")[None])
    rig = Rig(ToneSplit(), "", ToneEars())
    assert judge.signs([clip], loudest, rig, RATE) == [None]
    before = judge.Verdict(-3.0, -0.0, 0.4)
    assert judge.judged([before], [clip], loudest, rig, RATE) == [before]
    with pytest.raises(UsageError, match="listener"):
        judge.signs([clip], loudest, Rig(ToneSplit()), RATE)


def test_the_loudest_piece_is_kept() -> None:
    loudest = judge.Loudest(2)
    pieces = [(0.1, 0.3), (0.4, 0.2), (0.2, 0.1)]
    for one, other in pieces:
        loudest.add(torch.full((1, 8), one + other), torch.tensor([[[one] * 8], [[other] * 8]]))
    assert [float(stem[0, 0]) for stem in loudest.stems if stem is not None] == pytest.approx([0.4, 0.3])
    assert [excerpt.number for excerpt in loudest.excerpts if excerpt] == [2, 1]
    quiet = judge.Loudest(1)
    quiet.add(torch.ones(1, 8), torch.zeros(1, 1, 8))
    assert quiet.excerpts == [None]


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
    nothing = torch.tensor([-2.0, -2.0, -6.0, -6.0, -6.0, 0.0])
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
    there, absent = torch.stack(signs_of(tone("beep") + tone("low hum"), "beep", "cow"))  # type: ignore[arg-type]
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
