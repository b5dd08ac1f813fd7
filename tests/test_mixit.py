"""Unconditional separation: the network, its losses against a search by hand, training, and the picking."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from unweave import hub, separators
from unweave.config import from_dict
from unweave.data.manifest import DecodedClips, read_manifest
from unweave.data.mixtures import Mixer
from unweave.errors import QueryError, UsageError
from unweave.evaluate import oversplit
from unweave.evaluate.metrics.signal import sdr, si_sdr
from unweave.listen import tagger
from unweave.models.tdcn import TDCN, TDCNConfig
from unweave.separators.mixit import MixItSeparator, belonging
from unweave.train.losses import mixture_invariant_loss, permutation_loss
from unweave.train.recipes.mixit import PARTS, MixItRecipe, collate, step, train
from unweave.types import Audio, Query

DATA = Path(__file__).parent / "data"
TINY = TDCNConfig(fft_size=512, hop=128, width=16, hidden=24, dilations=3, repeats=3)
CONFIG = """
recipe = "mixit"
batch = 2
[model]
fft_size = 512
hop = 128
width = 16
hidden = 16
dilations = 2
[mixing]
sources = [1.0]
alone = 0.5
seconds = 0.25
[loop]
steps = 4
every = 2
warmup = 2
"""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(name: str) -> Tensor:
    return torch.from_numpy(soundfile.read(DATA / f"{name}.flac", dtype="float32", frames=64_000)[0])


@pytest.fixture
def network() -> TDCN:
    torch.manual_seed(0)
    return TDCN(TINY).eval().requires_grad_(False)


@pytest.fixture
def separator(network: TDCN, ears: Path) -> MixItSeparator:
    return MixItSeparator(network, tagger.load(ears))


# --- the network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 255, 5000])
def test_outputs_sum_to_the_mixture(network: TDCN, length: int) -> None:
    mixture = noise(2, length)
    outputs = network(mixture)
    assert outputs.shape == (2, 4, length)
    assert torch.allclose(outputs.sum(1), mixture, atol=1e-5)
    assert not torch.allclose(outputs[:, 0], outputs[:, 1], atol=1e-4)


def test_gain_passes_through_and_each_mixture_is_heard_for_itself(network: TDCN) -> None:
    mixture = noise(2, 5000)
    outputs = network(mixture)
    assert torch.allclose(network(mixture * 1e-3), outputs * 1e-3, atol=1e-7)
    assert torch.allclose(network(mixture[1:]), outputs[1:], atol=1e-5)


def test_blocks_reach_as_far_as_their_dilation() -> None:
    """The convolution written out is torch's own."""
    from unweave.models.tdcn import Block

    block = Block(8, 12, dilation=4, scale=1.0)
    x = noise(2, 30, 12)
    expected = torch.nn.functional.conv1d(x.mT, block.taps.T[:, None], padding=4, dilation=4, groups=12).mT
    assert torch.allclose(block._look(x), expected, atol=1e-6)
    assert block._look(x[:, :2]).shape == (2, 2, 12), "shorter than it reaches"


def test_the_default_is_small_enough_to_ship_and_every_weight_counts() -> None:
    config = TDCNConfig()
    assert 2 * sum(parameter.numel() for parameter in TDCN(config).parameters()) < 12e6
    tiny = TDCN(TINY)
    tiny(noise(1, 3000))[:, :2].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in tiny.parameters())
    with pytest.raises(ValueError, match="two outputs"):
        replace(config, outputs=1)
    with pytest.raises(ValueError, match="third"):
        replace(config, hop=1024)


# --- losses --------------------------------------------------------------------------------------------


def test_mixture_invariant_loss_is_the_best_of_all_sums() -> None:
    outputs, mixtures = noise(3, 4, 50), noise(3, 2, 50, seed=1)
    found = mixture_invariant_loss(outputs, mixtures, ceiling_db=300)
    for item in range(3):
        best = max(
            (
                [
                    sdr(
                        sum(
                            (outputs[item, m] for m in range(4) if owners[m] == k),
                            torch.zeros(50),
                        ),
                        mixtures[item, k],
                    ).item()
                    for k in range(2)
                ]
                for owners in itertools.product(range(2), repeat=4)
            ),
            key=sum,
        )
        assert found[item].tolist() == pytest.approx([-value for value in best], abs=1e-3)


def test_permutation_loss_is_the_best_of_all_orders() -> None:
    outputs, references = noise(3, 4, 50), noise(3, 3, 50, seed=1)
    found = permutation_loss(outputs, references, ceiling_db=300)
    for item in range(3):
        best = max(
            (
                [sdr(outputs[item, m], references[item, k]).item() for k, m in enumerate(order)]
                for order in itertools.permutations(range(4), 3)
            ),
            key=sum,
        )
        assert found[item].tolist() == pytest.approx([-value for value in best], abs=1e-3)


def test_losses_flatten_out_and_silent_references_ask_for_silence() -> None:
    sources = noise(1, 3, 50)
    exact = torch.cat([sources, torch.zeros(1, 1, 50)], 1)[:, [2, 3, 0, 1]]
    told = torch.cat([sources, torch.zeros(1, 1, 50)], 1)
    assert permutation_loss(exact, told)[0].tolist() == pytest.approx([-30, -30, -30, -20], abs=1e-2)
    pair = torch.stack([sources[:, 0] + sources[:, 2], sources[:, 1]], 1)
    assert mixture_invariant_loss(exact, pair)[0].tolist() == pytest.approx([-30, -30], abs=1e-2)
    leaking = torch.cat([sources, 0.5 * sources.sum(1, keepdim=True)], 1)
    assert permutation_loss(leaking, told)[0, 3].item() == pytest.approx(-5.85, abs=0.01)


# --- training ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> Mixer:
    clips = DecodedClips(DATA, read_manifest(DATA, "train"), 32_000, tmp_path_factory.mktemp("cache"))
    return Mixer(clips, replace(PARTS, seconds=0.5), seed=3)


def test_both_kinds_hear_the_same_and_are_told_differently(mixer: Mixer) -> None:
    invariant = collate(mixer, range(4), MixItRecipe())["references"]
    told = collate(mixer, range(4), MixItRecipe(invariant=False))["references"]
    assert invariant.shape == (4, 2, 16_000)
    assert told.shape == (4, 4, 16_000)
    assert torch.allclose(invariant.sum(1), told.sum(1), atol=1e-4)
    counts = told.any(-1).sum(1)
    assert counts.min() >= 2
    assert counts.max() > 2


@pytest.mark.parametrize("invariant", [True, False])
def test_it_learns(mixer: Mixer, invariant: bool) -> None:
    """One batch of real mixtures, forty updates: what was told is separated better by decibels."""
    recipe = MixItRecipe(invariant=invariant, model=replace(TINY, width=32, hidden=48))
    batch = collate(mixer, range(2), recipe)
    torch.manual_seed(0)
    model = TDCN(recipe.model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    found = []
    for _ in range(40):
        losses = step(model, batch, recipe)
        optimiser.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimiser.step()
        found.append({name: loss.item() for name, loss in losses.items()})
    assert found[-1]["snr"] < found[0]["snr"] - 3
    assert (found[-1]["idle"] < found[0]["idle"] - 3) is not invariant, "only PIT is told of silence"


def test_a_run_in_two_halves_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    whole = train(config, DATA, tmp_path / "whole")

    class Stop(Exception):
        pass

    def report(entry: dict[str, float]) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(config, DATA, tmp_path / "broken", report=report)
    resumed = train(config, DATA, tmp_path / "broken", resume=True)
    one, two = load_file(whole), load_file(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    logged = [
        json.loads(line)["step"] for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    ]
    assert logged == [2, 4]
    assert hub.engine_of(whole) == "mixit"
    assert separators.load(str(whole), "cpu").sample_rate == 32_000


def test_too_few_outputs_are_refused() -> None:
    with pytest.raises(UsageError, match="want 6 outputs, got 4"):
        from_dict(MixItRecipe, {"mixing": {"sources": [0.5, 0.5]}})


# --- the engine ----------------------------------------------------------------------------------------


def test_contract(separator: MixItSeparator) -> None:
    mixture = noise(2, 20_000) * 0.1
    before = mixture.clone()
    queries = [Query("dog"), Query("rain"), Query("rain", keep=False)]

    estimates = separator.separate(mixture, queries)

    assert estimates.shape == (3, 2, 20_000)
    assert torch.equal(mixture, before), "input was modified"
    assert torch.equal(estimates, separator.separate(mixture, queries)), "not repeatable"
    swapped = separator.separate(mixture, queries[1::-1])
    assert torch.allclose(swapped, estimates[:2].flip(0), atol=1e-5), "not in the order of the queries"
    assert torch.allclose(estimates[1] + estimates[2], mixture, atol=1e-5), "kept and removed do not add up"
    quiet = separator.separate(mixture / 8, queries)
    assert torch.allclose(quiet * 8, estimates, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 1023])
def test_short_and_silent(separator: MixItSeparator, length: int) -> None:
    for mixture in (torch.zeros(1, length), torch.ones(3, length) * 0.1):
        estimates = separator.separate(mixture, [Query("rain")])
        assert estimates.shape == (1, *mixture.shape)
        assert torch.isfinite(estimates).all()


def test_channels_in_opposite_phase_are_split_alike(separator: MixItSeparator) -> None:
    left = noise(1, 9000)
    outputs = separator.split(torch.cat([left, -0.5 * left]))
    assert outputs.shape == (4, 2, 9000)
    assert torch.allclose(outputs[:, 1], -0.5 * outputs[:, 0], atol=1e-6)


def test_what_must_not_be_is_left_out(separator: MixItSeparator) -> None:
    """With the same words on both sides no output is the query's, and the whole mixture is the rest."""
    mixture = noise(1, 9000)
    plain, barred, rest = separator.separate(
        mixture, [Query("dog"), Query("dog", not_text="dog"), Query("dog", not_text="dog", keep=False)]
    )
    assert plain.any()
    assert not barred.any()
    assert torch.equal(rest, mixture)


def test_only_words_are_taken(separator: MixItSeparator) -> None:
    with pytest.raises(QueryError, match="words"):
        separator.separate(torch.ones(1, 100), [Query(example=Audio(torch.ones(1, 100), 32_000))])
    with pytest.raises(UsageError, match="channels, time"):
        separator.separate(torch.ones(100), [Query("dog")])


def test_outputs_go_where_they_fit() -> None:
    fits = torch.tensor([[0.8, 0.5, 0.1, 0.0], [0.1, 0.0, 0.9, 0.0], [0.1, 0.0, 0.3, 0.0]])
    # Two outputs for the first; the last shares the second's, having none of its own.
    assert belonging(fits).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert belonging(torch.tensor([[0.8, 0.3], [0.0, 0.7]])).tolist() == [[1, 0], [0, 1]]
    assert belonging(torch.tensor([[0.8, 0.3]])).tolist() == [[1, 0]], "what nobody asks for is nobody's"
    assert not belonging(torch.zeros(1, 4)).any()


def test_words_pick_the_right_output(monkeypatch: pytest.MonkeyPatch, network: TDCN) -> None:
    """With the listener that comes along, and a right split: each sound, and none that is not there."""
    saxophone, rain = clip("alto-saxophone"), clip("rain")
    engine = MixItSeparator(network, tagger.load())
    leak = 0.01 * (rain + saxophone)  # 40 dB down, and yet it fits all that sounds
    parts = torch.stack([0.6 * rain, leak, saxophone - leak, 0.4 * rain])[:, None]
    monkeypatch.setattr(engine, "split", lambda mixture: parts)
    mixture = (rain + saxophone)[None]
    queries = [Query("rain"), Query("alto saxophone"), Query("dog barking")]

    wet, music, absent = engine.separate(mixture, queries)

    assert si_sdr(wet[0], rain) > 60, "the rain was in two outputs"
    assert si_sdr(music[0], saxophone) > 25
    assert absent.square().mean() < 0.01 * mixture.square().mean()


# --- how it splits -------------------------------------------------------------------------------------


def test_the_report_tells_splitting_from_picking(
    network: TDCN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = tmp_path / "tiny.safetensors"
    hub.save(network, weights, "mixit")
    oversplit.main(
        ["--data", str(DATA), "--weights", str(weights), "--benchmarks", "tiny", "--count", "2", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"tiny, one alone", "tiny"}
    for part in found.values():
        assert sum(part[rate]["mean"] for rate in ("under", "equal", "over")) == pytest.approx(1)
        assert part["best"]["count"] == part["picked"]["count"] == 2
        assert -20 <= part["best"]["mean"] <= 100


def test_the_report_wants_an_engine_that_splits(tiny: Path) -> None:
    with pytest.raises(UsageError, match="does not split"):
        oversplit.measure(separators.load(str(tiny), "cpu"), DATA, "tiny", 1)


def test_a_right_split_has_the_best_score(
    separator: MixItSeparator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources handed out as outputs, one of them in two halves: over-separated, and 6 dB short of nothing."""
    from unweave.evaluate import benchmarks

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    split: Callable[[Tensor], Tensor]
    ((_, example),) = itertools.islice(benchmarks.examples(benchmarks.load("tiny"), DATA), 1)
    one, two = example.sources[:2]
    split = lambda mixture: torch.stack([0.5 * one, two, 0.5 * one, torch.zeros_like(one)])  # noqa: E731
    monkeypatch.setattr(separator, "split", split)
    (row,) = oversplit.measure(separator, DATA, "tiny", 1)
    assert (row.under, row.equal, row.over) == (0, 0, 1)
    assert row.best > 60
