"""The listener: its network, what it is trained on, and how names that were found become a list of events."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unweave import hub
from unweave.audio import resample, resample_stream
from unweave.data.manifest import DecodedClips, read_manifest
from unweave.data.mixtures import Mixer, MixingConfig, known_labels, low_passed
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError, UsageError
from unweave.language.knowledge import plainly, table
from unweave.listen.merging import Found, Sounding, chosen, grouped
from unweave.listen.tagger import Calibration, Tagger, load
from unweave.models.listener import ListenerConfig, ListenerNetwork, pooled
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.train.loop import Part
from unweave.train.recipes import train
from unweave.train.recipes.listener import (
    ListenerRecipe,
    Words,
    active,
    collate,
    heard,
    step,
    usual,
)
from unweave.types import Audio

DATA = Path(__file__).parent / "data"
SMALL = ListenerConfig(OpenSepConfig(bands=64, widths=(8, 8, 8), heads=2, layers=1), dim=32)


@pytest.fixture(scope="module")
def small() -> Tagger:
    """A listener that has learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ListenerNetwork(SMALL).eval().requires_grad_(False)
        torch.nn.init.normal_(network.expected.bias)
    return Tagger(network, MiniLM(), Calibration())


def test_a_frame_is_shorter_than_a_tenth_of_a_second() -> None:
    assert ListenerConfig().frame == 0.064


def test_the_network_does_not_care_for_level_but_for_balance(small: Tagger) -> None:
    power = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))

    def heard(power: torch.Tensor) -> torch.Tensor:
        network = small.network
        return network.judge(network.collect(network.encoder.features(power, 0.9 * power.sqrt())))

    plain = heard(power)
    torch.testing.assert_close(heard(power * 1e-4), plain, rtol=1e-3, atol=1e-4)
    power[:, 40:] *= 10
    assert not torch.allclose(heard(power), plain, atol=1e-3)


def test_pooling_lies_between_mean_and_largest_and_favours_events() -> None:
    steady = torch.full((64,), 2.0)
    assert pooled(steady) == pytest.approx(2.0)
    event = torch.full((64,), -8.0)
    event[10:14] = 4.0
    assert 3.9 < float(pooled(event)) <= 4.0
    assert float(event.mean()) < float(pooled(event))


@pytest.mark.parametrize("length", [500, 32_000, 32_000 * 10 + 7, 32_000 * 25 + 1000])
def test_an_impression_has_a_frame_for_all_of_the_sound(small: Tagger, length: int) -> None:
    sound = torch.randn(2, length, generator=torch.Generator().manual_seed(1)) * 0.1
    impression = small.follow([sound], 32_000)
    assert len(impression.vectors) == len(impression.level_db) == math.ceil(length / 2048)
    assert impression.duration == pytest.approx(length / 32_000)
    assert float(impression.level_db[0]) == pytest.approx(-20, abs=1)


def test_pieces_of_any_length_give_one_impression(small: Tagger) -> None:
    sound = torch.randn(1, 32_000 * 23, generator=torch.Generator().manual_seed(1))
    whole = small.follow([sound], 32_000)
    pieces = small.follow(sound.split(7_777, dim=1), 32_000)
    torch.testing.assert_close(pieces.vectors, whole.vectors)
    torch.testing.assert_close(pieces.level_db, whole.level_db)


def test_windows_hardly_differ_from_one_look_at_the_same_sound(small: Tagger) -> None:
    sound = torch.randn(1, 2048 * 150, generator=torch.Generator().manual_seed(1))
    once = small.follow([sound], 32_000).vectors
    longer = torch.cat([sound, sound.flip(1)], dim=1)
    windowed = small.follow([longer], 32_000).vectors[: len(once)]
    inner = slice(0, 60)  # later frames know what comes after them, or begin another window
    torch.testing.assert_close(windowed[inner], once[inner], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_stream_is_resampled_as_the_whole_would_be(rate: int) -> None:
    sound = torch.randn(2, rate, generator=torch.Generator().manual_seed(1))
    made = torch.cat(list(resample_stream(sound.split(1_000, dim=1), rate, 32_000)), dim=1)
    whole = resample(sound, rate, 32_000)
    assert abs(made.shape[1] - whole.shape[1]) <= 1
    length = min(made.shape[1], whole.shape[1])
    torch.testing.assert_close(made[:, :length], whole[:, :length], rtol=1e-4, atol=1e-4)


def test_sound_in_opposite_phase_is_heard(small: Tagger) -> None:
    mono = torch.randn(1, 32_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        small.follow([torch.cat([mono, -mono])], 32_000).vectors, small.follow([mono], 32_000).vectors
    )


def test_silence_is_an_empty_list_and_nothing_is_no_error(small: Tagger) -> None:
    assert small.hear(Audio(torch.zeros(1, 64_000), 32_000)) == []
    nothing = small.follow([], 44_100)
    assert nothing.duration == 0
    assert small.heard(nothing) == []
    assert small.present(nothing, ["rain"]).tolist() == [0.0]
    with pytest.raises(QueryError, match="silent"):
        small.embed(Audio(torch.zeros(1, 64_000), 32_000))


def test_probabilities_are_what_the_calibration_makes_of_logits(small: Tagger) -> None:
    impression = small.follow([torch.randn(1, 64_000, generator=torch.Generator().manual_seed(1))], 32_000)
    names = ["rain", "dog barking"]
    plain = torch.logit(small.probabilities(impression, names))
    bent = Tagger(small.network, small.encoder, Calibration(frame=(2.0, -1.0)))
    torch.testing.assert_close(
        torch.logit(bent.probabilities(impression, names)), 2 * plain - 1, rtol=1e-3, atol=1e-3
    )
    assert plain.shape == (2, 32)


def test_a_handicap_holds_for_names_that_nobody_asked_for(small: Tagger) -> None:
    impression = small.follow([torch.randn(1, 64_000, generator=torch.Generator().manual_seed(1))], 32_000)
    held_back = Tagger(small.network, small.encoder, Calibration(stranger=20.0))
    names = ["dog barking", "quetzal croaking"]
    torch.testing.assert_close(small.present(impression, names), held_back.present(impression, names))
    assert {one.text for one in held_back.heard(impression, names, 0.0)} == set(names)
    known = set(map(plainly, known_labels()))
    free, held = (tagger.heard(impression, threshold=0.0) for tagger in (small, held_back))
    assert any(plainly(one.text) not in known for one in free)
    assert all(plainly(one.text) in known for one in held)


def test_only_the_stretch_asked_about_counts(small: Tagger) -> None:
    generator = torch.Generator().manual_seed(1)
    sound = torch.cat(
        [torch.randn(1, 96_000, generator=generator), torch.sin(torch.arange(96_000) / 5)[None]], dim=1
    )
    impression = small.follow([sound], 32_000)
    first = small.present(impression, ["rain"], 0.0, 2.5)
    assert first != small.present(impression, ["rain"], 3.5, 6.0)
    within = small.probabilities(impression, ["rain"])[:, impression.frames(0.0, 2.5)]
    assert within.shape[1] == 40
    assert float(within.min()) <= float(first) <= float(within.max())


def test_labels_and_thresholds_are_checked(small: Tagger) -> None:
    impression = small.follow([torch.randn(1, 32_000)], 32_000)
    with pytest.raises(QueryError, match="no label"):
        small.heard(impression, [])
    with pytest.raises(UsageError, match="between 0 and 1"):
        small.heard(impression, ["rain"], threshold=1.5)


def test_a_separator_is_no_listener(tiny: Path, tmp_path: Path, small: Tagger) -> None:
    with pytest.raises(ModelError, match="no listener"):
        load(tiny)
    path = tmp_path / "small.safetensors"
    hub.save(small.network, path, "listener")
    assert load(path).calibration == Calibration()
    path.with_suffix(".json").write_text('{"calibration": {"slope": 1}}')
    with pytest.raises(ModelError, match="calibration"):
        load(path)


# --- merging ---------------------------------------------------------------------------------------


def found(name: int, score: float, first: int, frames: range) -> Found:
    active = torch.zeros(64, dtype=torch.bool)
    active[list(frames)] = True
    return Found(name, score, first, active)


def sounding(names: list[str], directions: torch.Tensor | None = None) -> Sounding:
    vectors = MiniLM().encode([_query(name) for name in names])
    return Sounding(names, vectors, torch.eye(len(names)) if directions is None else directions)


def _query(name: str):  # type: ignore[no-untyped-def]
    from unweave.types import Query

    return Query(name)


def test_near_synonyms_become_the_surest_of_them_with_all_of_their_time() -> None:
    names = ["rain", "rainfall", "trumpet"]
    result = chosen(
        [found(0, 0.9, 0, range(10)), found(1, 0.5, 64, range(20, 30)), found(2, 0.6, 0, range(5))],
        sounding(names),
    )
    assert [(one.name, one.stretches) for one in result] == [
        (0, [(0, 10, 0.9), (84, 94, 0.5)]),
        (2, [(0, 5, 0.6)]),
    ]


def test_names_that_the_listener_cannot_tell_apart_are_one() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.95, 0.1]])
    names = ["helicopter", "lawn mower"]
    both = [found(0, 0.9, 0, range(10)), found(1, 0.8, 0, range(10))]
    assert len(chosen(both, sounding(names))) == 2
    assert [one.name for one in chosen(both, sounding(names, directions))] == [0]


def test_evidence_of_the_whole_recording_decides_which_name_stays() -> None:
    names = ["rain", "rainfall"]
    pieces = [found(0, 0.9, 0, range(3)), *(found(1, 0.6, 64 * n, range(3)) for n in range(1, 4))]
    assert [one.name for one in chosen(pieces, sounding(names))] == [1]


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    (one,) = chosen([found(0, 0.9, 0, range(0, 4)), found(0, 0.9, 0, range(10, 12))], sounding(["rain"]))
    assert one.stretches == [(0, 12, 0.9)]
    (one,) = chosen([found(0, 0.9, 0, range(0, 4)), found(0, 0.9, 0, range(20, 22))], sounding(["rain"]))
    assert one.stretches == [(0, 4, 0.9), (20, 22, 0.9)]


# --- training ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DecodedClips:
    return DecodedClips(DATA, read_manifest(DATA, "test"), 32_000, tmp_path_factory.mktemp("cache"))


def test_a_source_is_active_where_it_is_loud_and_not_where_it_is_covered() -> None:
    span = 2048
    sources = torch.zeros(2, 16 * span)
    sources[0, : 8 * span] = 1.0
    sources[1, 4 * span :] = 0.05  # 26 dB weaker
    found = active(sources, SMALL)
    assert found[0, :15].tolist() == [1.0] * 8 + [0.0] * 7
    assert found[1, :15].tolist() == [0.0] * 8 + [1.0] * 7
    sources[1] = 0.1  # 20 dB weaker: who could say
    assert active(sources, SMALL)[1, :8].isnan().all()


def test_alone_means_one_source(clips: DecodedClips) -> None:
    mixer = Mixer(clips, MixingConfig(alone=1.0, seconds=1.0), seed=0)
    for number in range(5):
        item = mixer.draw(number)
        assert len(item.sources) == len(item.labels) == 1


def test_words_fit_where_their_source_sounds(clips: DecodedClips, small: Tagger) -> None:
    recipe = ListenerRecipe(model=SMALL, batch=4, strangers=8)
    words = Words(list(clips.clips))
    mixer = Mixer(clips, recipe.mixing, seed=0)
    batch = collate(small.network, mixer, range(3, 6), words, recipe, Part())
    labels = words.labels
    for row, number in enumerate(range(3, 6)):
        item, fits = mixer.draw(number), batch["fits"][row]
        expected = active(low_passed(item.sources, item.cutoff_hz, 32_000), SMALL)
        for label in range(len(labels.names)):
            if label in item.labels:
                mine = expected[item.labels.index(label)]
                assert torch.equal(fits[label].nan_to_num(0.5), mine.nan_to_num(0.5))
            elif labels.overlap[list(item.labels), label].any():
                assert fits[label].isnan().all()
            else:
                assert not fits[label].any()
        for kind, name in enumerate(words.kinds):
            belongs = any(name in labels.kinds[label] for label in item.labels)
            assert bool((fits[len(labels.names) + kind] == 1).any()) == belongs
    assert batch["texts"].shape == (len(labels.names) + len(words.kinds) + 8, 384)
    torch.testing.assert_close(batch["texts"].norm(dim=1), torch.ones(len(batch["texts"])))


def test_bands_are_silenced_while_learning_only(clips: DecodedClips, small: Tagger) -> None:
    recipe = ListenerRecipe(model=SMALL, batch=16, strangers=1, silenced=8)
    words, mixer = Words(list(clips.clips)), Mixer(clips, recipe.mixing, seed=0)
    quiet = {}
    for part in (Part(), None):
        batch = collate(small.network, mixer, range(16), words, recipe, part)
        quiet[part] = (batch["power"] == 0).all(2).sum(1)
    assert not quiet[None].any()
    taken = quiet[Part()]
    assert taken.min() == 0
    assert 0 < taken.max() <= 8
    assert 2 <= int((taken > 0).sum()) <= 14, "about half of them"


def test_parts_of_a_batch_have_the_loss_of_the_whole(clips: DecodedClips, small: Tagger) -> None:
    recipe = ListenerRecipe(model=SMALL, batch=6, strangers=8)
    words = Words(list(clips.clips))
    mixer, all_of_it = Mixer(clips, recipe.mixing, seed=0), range(6)
    whole = collate(small.network, mixer, all_of_it, words, recipe, Part())
    parts = [collate(small.network, mixer, all_of_it, words, recipe, Part(index, 3)) for index in range(3)]
    assert len({float(part["counts"]) for part in parts}) > 1, "no test if all parts have as many labels"
    expected = step(small.network, whole)
    found = [step(small.network, part | {"counts": whole["counts"] / 3}) for part in parts]
    for name in expected:
        mean = sum(float(one[name]) for one in found) / 3
        assert mean == pytest.approx(float(expected[name]), rel=0.01, abs=0.01)  # half precision


def test_features_are_measured_against_what_is_usual(clips: DecodedClips, small: Tagger) -> None:
    recipe = ListenerRecipe(model=SMALL, batch=50)
    mixer = Mixer(clips, dataclasses.replace(recipe.mixing, seconds=0.5), seed=0)
    network = ListenerNetwork(SMALL)
    network.mean, network.spread = usual(network, mixer, recipe)
    assert network.training, "as it was left"
    power, magnitude, _, _ = heard(network, mixer, range(50))
    with torch.no_grad():
        features = network.eval().joined(network.collect(network.encoder.features(power, magnitude)))
    assert features.mean().abs() < 0.1
    assert abs(float(features.std()) - 1) < 0.2


def test_a_name_of_what_may_be_there_is_no_stranger(clips: DecodedClips) -> None:
    words = Words(list(clips.clips))
    names = list(table())
    dog = words.labels.names.index("dog barking")
    assert words.near[dog, names.index("animal")]
    assert words.near[dog, names.index("dog growling")]
    assert not words.near[dog, names.index("trumpet")]


def test_nobody_is_asked_to_hear_what_was_cut_away(clips: DecodedClips) -> None:
    mixer = Mixer(clips, dataclasses.replace(ListenerRecipe().mixing, low_pass=1.0), seed=0)
    item = mixer.draw(0)
    spectrum = torch.fft.rfft(low_passed(item.sources, item.cutoff_hz, 32_000)).abs()
    first = int(item.cutoff_hz * 1.2 / 16_000 * spectrum.shape[1])
    assert spectrum[:, first:].square().sum() < 1e-4 * spectrum.square().sum()


def test_the_loss_is_small_for_right_answers_only() -> None:
    fits = torch.tensor([[[1.0, 1.0], [0.0, 0.0], [torch.nan, torch.nan]]])
    right, wrong = torch.tensor([[[9.0, 9.0], [-9.0, -9.0], [-9.0, 9.0]]]), torch.zeros(1, 3, 2)

    class Fixed(torch.nn.Module):
        """Answers with logits that were put in."""

        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__()
            self.logits = logits
            self.encoder = ListenerNetwork(SMALL).encoder

        def collect(self, features: torch.Tensor) -> list[torch.Tensor]:
            return [features]

        def judge(self, levels: list[torch.Tensor]) -> torch.Tensor:
            return levels[0]

        def read(self, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return texts, texts

        def score(self, vectors: torch.Tensor, words: object) -> torch.Tensor:
            return self.logits

    batch = {"power": torch.rand(1, 64, 8), "magnitude": torch.rand(1, 64, 8), "fits": fits}
    batch |= {"texts": torch.zeros(3, 4)}
    batch |= {"weight": torch.ones(3), "rank": torch.tensor(1.0), "counts": (fits == 1).any(-1).sum()[None]}
    good, bad = (step(Fixed(logits), batch) for logits in (right, wrong))
    assert good["loss"] < 0.01
    assert good["first"] == 1
    assert bad["loss"] > 1
    assert bad["first"] == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A separator, and a listener that learned on from its way down for two updates."""
    folder = tmp_path_factory.mktemp("trained")
    separator = folder / "separator.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        hub.save(OpenSep(SMALL.encoder), separator, "opensep")
    return separator, train(config_of(folder, separator), DATA, folder / "run")


def config_of(folder: Path, start: Path) -> Path:
    config = folder / "config.toml"
    config.write_text(
        f"recipe = 'listener'\nstart = '{start}'\nbatch = 2\nstrangers = 4\n"
        "[mixing]\nseconds = 0.5\n[model]\ndim = 32\n"
        "[model.encoder]\nbands = 64\nwidths = [8, 8, 8]\nheads = 2\nlayers = 1\n"
        "[loop]\nsteps = 2\nwarmup = 1\nlearning_rate = 1e-2\naverage = 0.0\n"
    )
    return config


def test_the_way_down_of_a_separator_learns_on(trained: tuple[Path, Path]) -> None:
    separator, path = trained
    network = hub.load(ListenerNetwork, ListenerConfig, path)
    before = hub.load(OpenSep, OpenSepConfig, separator).state_dict()
    moved = [
        float((tensor - before[name]).abs().max()) for name, tensor in network.encoder.state_dict().items()
    ]
    assert 0 < max(moved) < 0.1, "two updates of at most 1e-2 each, and not another start"
    assert load(path).hear(Audio(torch.zeros(1, 32_000), 32_000)) == []


def test_a_listener_learns_on_from_all_of_a_listener(trained: tuple[Path, Path], tmp_path: Path) -> None:
    path = train(config_of(tmp_path, trained[1]), DATA, tmp_path / "run")
    before, after = (load_file(one) for one in (trained[1], path))
    assert torch.equal(after["mean"], before["mean"])
    assert all(float((after[name].float() - before[name].float()).abs().max()) < 0.1 for name in before)
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_another_shape_is_no_start(trained: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_of(tmp_path, trained[1])
    config.write_text(config.read_text().replace("dim = 32", "dim = 64"))
    with pytest.raises(ModelError, match="cannot start this listener: it has no"):
        train(config, DATA, tmp_path / "run")


# --- names -------------------------------------------------------------------------------------------


def test_the_name_that_is_most_probably_right_comes_first() -> None:
    """Three saxophones share what one of them had; the one in their middle is right for all."""
    names = ["bagpipes", "alto saxophone", "saxophone", "soprano saxophone"]
    meanings = torch.tensor([[0, 0, 1], [0.8, -0.6, 0], [1, 0, 0], [0.8, 0.6, 0]])
    alike = Sounding(names, meanings, torch.eye(4))
    found = grouped([0.4, 0.25, 0.2, 0.22], alike)
    assert [names[name] for name, _ in found] == ["saxophone", "bagpipes"]
    assert [chance for _, chance in found] == pytest.approx([0.67, 0.4])


def test_names_that_are_no_labels_do_not_add_up() -> None:
    names = ["zither of glass", "glass zither"]  # neither was trained on
    same = torch.tensor([[1.0, 0], [1, 0]])
    assert grouped([0.4, 0.3], Sounding(names, same, torch.eye(2))) == [(0, pytest.approx(0.4))]
