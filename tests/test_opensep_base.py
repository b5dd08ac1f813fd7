"""The network at its published size, and the same code small with all that the small default leaves out."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from test_roberta import save_roberta
from unweave import separators
from unweave.config import read_toml
from unweave.data.manifest import DecodedClips, read_manifest
from unweave.data.mixtures import PAIRS, Mixer, MixingConfig
from unweave.encoders.minilm import MiniLM
from unweave.encoders.roberta import BASE
from unweave.errors import ModelError, UsageError
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.separators.opensep import OpenSepSeparator
from unweave.train.checkpoint import NAME
from unweave.train.recipes.opensep import OpenSepRecipe, collate, run, step
from unweave.types import Query

DATA = Path(__file__).parent / "data"
CONFIG = Path(__file__).parent.parent / "configs" / "opensep-base.toml"
PUBLISHED = 87.68e6  # parameters of the published U-Net with its attention
SMALL = OpenSepConfig(
    sample_rate=16_000,
    fft_size=126,
    hop=32,
    bands=64,
    widths=(8, 16, 16, 16),
    heads=4,
    layers=1,
    above=(2, 1),
    text_dim=16,
)


def test_the_shipped_config_is_the_published_size() -> None:
    recipe = read_toml(OpenSepRecipe, CONFIG)
    config = recipe.model
    assert (len(config.widths), config.widths[0]) == (7, 64)
    assert [bool(layers) for layers in config.per_level] == [False] * 4 + [True] * 3
    assert (config.text, config.text_dim) == (BASE, 768)
    assert config.bands == config.fft_size // 2 + 1, "every bin is a band"
    frames = 1 + round(recipe.mixing.seconds * config.sample_rate) // config.hop
    assert (config.bands, frames) == (512, 512)
    assert recipe.mixing.levels == 1
    with torch.device("meta"):
        network = OpenSep(config)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 87_071_687
    assert count == pytest.approx(PUBLISHED, rel=0.01)


def test_attention_above_the_deepest_level_hears_its_text_and_its_place() -> None:
    torch.manual_seed(0)
    network = OpenSep(SMALL).eval().requires_grad_(False)
    features = torch.randn(1, 3, 64, 40)
    text, known = torch.randn(1, 2, 6, 16), torch.ones(1, 2, 6, dtype=torch.bool)
    known[0, 1, 4:] = False
    with torch.no_grad():
        # At their zero start all residual blocks look alike; what the text scales and shifts stays at zero.
        for module in (*network.up, *network.down):
            module.second.weight.normal_(std=0.1)
    levels = network.listen(features[..., :32])
    assert [tuple(level.shape[1:]) for level in levels] == [(8, 32, 16), (16, 16, 8), (16, 8, 4), (16, 4, 2)]
    levels[-1] = torch.zeros_like(levels[-1])
    network.seek = torch.nn.ModuleList()
    mask, _ = network.answer(levels, text, known)
    assert not torch.allclose(mask[0, 0], mask[0, 1], atol=1e-4)
    alone, _ = network.answer(levels, text[:, 1:, :4], known[:, 1:, :4])
    assert torch.allclose(mask[:, 1:], alone, atol=1e-4), "padding is read"
    # Rows of a map are told apart: a mixture that is the same everywhere is not answered the same everywhere.
    even = network.hear_above[2](torch.ones(1, 16, 8, 4))
    assert not torch.allclose(even[0, :, 0], even[0, :, 1], atol=1e-4)
    assert torch.allclose(even[0, :, :, 0], even[0, :, :, 3], atol=1e-5)


def test_a_level_without_attention_has_no_tensor_of_it() -> None:
    plain, none = (OpenSep(replace(SMALL, above=above)).state_dict() for above in ((), (0, 0, 0)))
    assert plain.keys() == none.keys()
    assert not [name for name in plain if "above" in name]
    found = {name.split(".")[1] for name in OpenSep(SMALL).state_dict() if name.startswith("hear_above")}
    assert found == {"1", "2"}


def test_what_cannot_be_attended_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 3 levels"):
        replace(SMALL, above=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="0 or more"):
        replace(SMALL, above=(-1,))
    with pytest.raises(ValueError, match="multiple of heads"):
        replace(SMALL, widths=(8, 16, 18, 16))
    assert replace(SMALL, widths=(7, 16, 16, 16)).per_level == (0, 1, 2, 1)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSepRecipe:
    """The shipped recipe with a small network and a small text encoder in their real formats."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = save_roberta(tmp_path / "roberta", reads=400)
    shipped = read_toml(OpenSepRecipe, CONFIG)
    return replace(
        shipped,
        model=replace(SMALL, text=str(folder)),
        mixing=replace(shipped.mixing, seconds=0.5),
        loop=replace(shipped.loop, steps=2, every=1, warmup=1),
        batch=2,
        validation=0,
    )


def test_the_full_recipe_learns_in_small_and_its_weights_separate(
    recipe: OpenSepRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    weights = run(recipe, DATA, out)
    assert all(line["skipped"] == 0 for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()))
    separator = separators.load(str(weights), "cpu")
    assert separator.sample_rate == 16_000
    mixture = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    dog, rain = separator.separate(mixture, [Query("dog barking"), Query("rain")])
    assert dog.shape == mixture.shape
    assert not torch.allclose(dog, rain)


def test_an_encoder_of_another_size_is_refused(recipe: OpenSepRecipe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="16 features, the network reads 32"):
        run(replace(recipe, model=replace(recipe.model, text_dim=32)), DATA, tmp_path / "run")
    with pytest.raises(ModelError, match="16 features, the encoder writes 384"):
        OpenSepSeparator(OpenSep(SMALL), MiniLM())
    labels = tuple(clip.label for clip in read_manifest(DATA, "train"))
    with pytest.raises(UsageError, match="every label"):
        run(replace(recipe, without=labels), DATA, tmp_path / "other")


def levels_mixer(tmp_path: Path, config: MixingConfig) -> Mixer:
    return Mixer(DecodedClips(DATA, read_manifest(DATA, "train"), 8000, tmp_path), config, seed=4)


def test_multi_level_mixtures_ask_for_all_sources_and_both_pairs(tmp_path: Path) -> None:
    config = MixingConfig(seconds=0.5, levels=1.0, queries=7, absent=1.0)
    mixer = levels_mixer(tmp_path, config)
    orders = set()
    for item in map(mixer.draw, range(8)):
        assert len(item.sources) == 4
        assert len(set(item.labels)) == 4
        asked = [tuple(row.nonzero()[:, 0].tolist()) for row in item.wanted]
        assert sorted(asked[:6]) == sorted([*PAIRS, (0,), (1,), (2,), (3,)])
        assert asked[6] == (), "the last one asks for what is not there"
        orders.add(tuple(asked))
    assert len(orders) > 1
    # Each source of a pair is asked for in that source's own words.
    plain = Mixer(mixer.clips, config, 4, prompts=lambda label: (f"{label}: heard",))
    item = plain.draw(0)
    names = [f"{plain.labels.names[label]}: heard" for label in item.labels]
    for wanted, text in list(zip(item.wanted, item.texts, strict=True))[:6]:
        assert text == " and ".join(names[source] for source in wanted.nonzero()[:, 0])


def test_some_mixtures_are_multi_level_and_few_labels_are_no_fault(tmp_path: Path) -> None:
    config = MixingConfig(seconds=0.5, levels=0.5, sources=(1.0,), queries=3)
    counts = [len(levels_mixer(tmp_path, config).draw(number).sources) for number in range(30)]
    assert set(counts) == {2, 4}
    assert 8 <= counts.count(4) <= 22
    clips = [clip for clip in read_manifest(DATA, "train") if clip.label in ("rain", "speech", "dog barking")]
    few = Mixer(DecodedClips(DATA, clips, 8000, tmp_path), replace(config, levels=1.0), seed=0)
    assert len(few.draw(0).sources) == 3


def test_level_weights_weigh_queries_by_how_many_sources_they_ask_for(tmp_path: Path) -> None:
    config = MixingConfig(seconds=0.5, levels=1.0, queries=6, absent=0.0)
    network = OpenSepConfig(
        sample_rate=8000, fft_size=512, hop=128, bands=32, widths=(8, 16), heads=2, layers=1
    )
    mixer, encoder = levels_mixer(tmp_path, config), MiniLM()
    torch.manual_seed(0)
    model = OpenSep(network).eval()
    found = {}
    for weights in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (3.0, 3.0)):
        recipe = OpenSepRecipe(model=network, mixing=config, level_weights=weights)
        batch = collate(mixer, range(2), encoder, recipe, noise=0.0)
        with torch.no_grad():
            found[weights] = float(step(model, batch, recipe)["snr"])
    # Four queries in six are for one source, two for a pair.
    mean = (4 * found[1.0, 0.0] + 2 * found[0.0, 1.0]) / 6
    assert found[1.0, 1.0] == pytest.approx(mean, abs=1e-3)
    assert found[3.0, 3.0] == pytest.approx(found[1.0, 1.0], abs=1e-5)
    assert abs(found[1.0, 0.0] - found[0.0, 1.0]) > 0.1
    with pytest.raises(ValueError, match="level_weights"):
        OpenSepRecipe(level_weights=(0.0,))


def test_yesterdays_mixtures_are_todays(tmp_path: Path) -> None:
    """Words, numbers and samples of three mixtures, recorded before there were levels and prompts."""
    drawn = json.loads((Path(__file__).parent / "recorded.json").read_text())["mixtures"]
    clips = read_manifest(DATA, "train")
    mixer = Mixer(DecodedClips(DATA, clips, 32_000, tmp_path), MixingConfig(), seed=3)
    for number, one in enumerate(drawn):
        item = mixer.draw(number)
        assert list(item.labels) == one["labels"]
        assert list(item.texts) == one["texts"]
        assert item.wanted.tolist() == one["wanted"]
        assert item.cutoff_hz == pytest.approx(one["cutoff_hz"])
        assert item.sources[:, 40_000].tolist() == pytest.approx(one["samples"], abs=1e-5)


@pytest.mark.slow
def test_a_full_size_step_forward_backward_checkpoint_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped config as it is, but for the text encoder, whose weights are not at hand: random tokens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shipped = read_toml(OpenSepRecipe, CONFIG)
    folder = save_roberta(tmp_path / "roberta", reads=512, dim=768)
    recipe = replace(
        shipped,
        model=replace(shipped.model, text=str(folder)),
        loop=replace(shipped.loop, steps=2, every=1),
        batch=1,
        validation=0,
    )
    entries = []

    class Stop(Exception):
        pass

    def stop(entry: dict[str, float]) -> None:
        entries.append(entry)
        raise Stop

    with pytest.raises(Stop):
        run(recipe, DATA, tmp_path / "run", report=stop)
    assert (tmp_path / "run" / NAME).stat().st_size > 4 * 4 * 87e6, "weights, average and both moments"
    weights = run(recipe, DATA, tmp_path / "run", resume=True, report=entries.append)
    assert [entry["step"] for entry in entries] == [1, 2]
    assert all(entry["skipped"] == 0 and entry["gradient"] > 0 for entry in entries)
    assert weights.stat().st_size == pytest.approx(2 * 87.07e6, rel=0.01)
    separator = separators.load(str(weights), "cpu")
    assert separator.separate(torch.randn(1, 16_000), [Query("dog barking")]).shape == (1, 1, 16_000)


def test_the_shipped_config_names_what_it_changes_only() -> None:
    """One fact, one place: nothing in the file repeats a default."""
    for path in (CONFIG, CONFIG.with_name("ablation.toml")):
        told = tomllib.loads(path.read_text())
        for name, value in told.items():
            default = getattr(OpenSepRecipe(), name)
            if not isinstance(value, dict):
                assert value != default, f"{path.name}: {name}"
                continue
            for key, inner in value.items():
                plain = getattr(default, key)
                assert inner != (list(plain) if isinstance(plain, tuple) else plain), f"{path.name}: {key}"
