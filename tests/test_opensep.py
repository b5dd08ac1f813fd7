"""The network and the engine: shapes, independence of length and gain, contract, and that it learns."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from unweave import hub, separators
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError, UnknownNameError
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.separators.opensep import OpenSepSeparator
from unweave.signal.bands import band_edges, band_matrix
from unweave.types import Query

TINY = OpenSepConfig(bands=32, widths=(8, 16, 24), heads=2, layers=1)


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


@pytest.fixture
def network() -> OpenSep:
    """Tiny and random, but with no layer left at its zero start, where every wiring looks alike."""
    torch.manual_seed(0)
    network = OpenSep(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


def test_bands_hold_every_bin_once() -> None:
    matrix = band_matrix(1025, 128)
    assert torch.equal(matrix.sum(0), torch.ones(1025))
    edges = band_edges(1025, 128)
    widths = [end - first for first, end in itertools.pairwise(edges)]
    assert widths[0] == 1
    assert all(later >= 1 for later in widths)
    assert edges[-1] == 1025


@pytest.mark.parametrize("frames", [1, 7, 8, 33])
def test_any_number_of_frames(network: OpenSep, frames: int) -> None:
    features = torch.randn(2, 3, 32, frames)
    text, known = torch.randn(2, 3, 5, 384), torch.ones(2, 3, 5, dtype=torch.bool)
    mask, gate = network(features, text, known)
    assert mask.shape == (2, 3, 32, frames)
    assert gate.shape == (2, 3)


def test_features_do_not_depend_on_gain(network: OpenSep) -> None:
    power = torch.rand(1, 32, 20) + 0.01
    magnitude = power.sqrt() * 0.8
    loud = network.features(power * 1e4, magnitude * 1e2)
    assert torch.allclose(network.features(power, magnitude), loud, atol=1e-4)


def test_each_query_is_answered_as_if_alone_and_padding_is_not_read(network: OpenSep) -> None:
    features = torch.randn(1, 3, 32, 24)
    text = torch.randn(1, 2, 6, 384)
    known = torch.ones(1, 2, 6, dtype=torch.bool)
    known[0, 1, 4:] = False
    both, gates = network(features, text, known)
    alone, gate = network(features, text[:, 1:, :4], known[:, 1:, :4])
    assert torch.allclose(both[:, 1:], alone, atol=1e-4)
    assert torch.allclose(gates[:, 1:], gate, atol=1e-4)
    assert not torch.allclose(both[:, 0], both[:, 1], atol=1e-2), "the query makes no difference"


def test_config_refuses_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="multiple"):
        replace(TINY, bands=30)
    with pytest.raises(ValueError, match="heads"):
        replace(TINY, heads=5)


def test_contract(network: OpenSep, encoder: MiniLM) -> None:
    separator = OpenSepSeparator(network, encoder)
    draw = torch.Generator().manual_seed(1)
    mixture = torch.randn(2, 20_000, generator=draw)
    before = mixture.clone()
    queries = [Query("dog"), Query("rain"), Query("rain", keep=False)]

    estimates = separator.separate(mixture, queries)

    assert estimates.shape == (3, 2, 20_000)
    assert torch.equal(mixture, before), "input was modified"
    assert torch.equal(estimates, separator.separate(mixture, queries)), "not repeatable"
    assert torch.allclose(estimates[1] + estimates[2], mixture, atol=1e-5), "kept and removed do not add up"


def test_all_channels_get_the_same_mask_even_in_opposite_phase(network: OpenSep, encoder: MiniLM) -> None:
    separator = OpenSepSeparator(network, encoder)
    left = torch.randn(1, 9_000, generator=torch.Generator().manual_seed(2))
    (answer,) = separator.separate(torch.cat([left, -0.5 * left]), [Query("dog")])
    assert answer.abs().max() > 1e-3
    assert torch.allclose(answer[1], -0.5 * answer[0], atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 1023])
def test_short_and_silent(network: OpenSep, encoder: MiniLM, length: int) -> None:
    separator = OpenSepSeparator(network, encoder)
    assert separator.separate(torch.ones(1, length), [Query("dog")]).shape == (1, 1, length)
    assert not separator.separate(torch.zeros(3, length), [Query("dog")]).any()


def test_negative_words_take_away(network: OpenSep, encoder: MiniLM) -> None:
    """With the same words on both sides the two masks tie, and a tie gives half."""
    separator = OpenSepSeparator(network, encoder)
    mixture = torch.randn(1, 9_000, generator=torch.Generator().manual_seed(3))
    plain, tied = separator.separate(mixture, [Query("dog"), Query("dog", not_text="dog")])
    assert torch.allclose(tied, plain / 2, atol=1e-4)


def test_an_example_without_words_is_refused(network: OpenSep, encoder: MiniLM) -> None:
    from unweave.types import Audio

    with pytest.raises(QueryError, match="words"):
        OpenSepSeparator(network, encoder).separate(
            torch.ones(1, 100), [Query(example=Audio(torch.ones(1, 100), 32_000))]
        )


def test_saved_and_loaded_weights_answer_alike(network: OpenSep, encoder: MiniLM, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    hub.save(network, path, "opensep")
    loaded = separators.load(str(path), "cpu")
    mixture = torch.randn(1, 9_000, generator=torch.Generator().manual_seed(4))
    ours = OpenSepSeparator(network, encoder).separate(mixture, [Query("dog")])
    error = (loaded.separate(mixture, [Query("dog")]) - ours).abs().max()
    assert error < 1e-2 * ours.abs().max(), "more than half precision costs"
    assert not list(tmp_path.glob(".*")), "a temporary file was left"


def test_the_shipped_network_answers_as_it_was_recorded() -> None:
    """Numbers that it gave before the network could have more attention than it has."""
    recorded = json.loads((Path(__file__).parent / "recorded.json").read_text())
    draw = torch.Generator().manual_seed(5)
    network = hub.load(OpenSep, OpenSepConfig, hub.path_of(hub.find("opensep-small")))
    features, text = torch.randn(1, 3, 128, 37, generator=draw), torch.randn(1, 2, 5, 384, generator=draw)
    known = torch.ones(1, 2, 5, dtype=torch.bool)
    known[0, 1, 3:] = False
    mask, gate = network(features, text, known)
    assert mask[0, :, ::40, ::12].flatten().tolist() == pytest.approx(recorded["mask"], abs=1e-3)
    assert gate.flatten().tolist() == pytest.approx(recorded["gate"], abs=1e-3)


def test_damaged_and_foreign_weights_are_named(network: OpenSep, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    hub.save(network, path, "opensep")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cut short"):
        separators.load(str(path), "cpu")
    path.write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match="safetensors"):
        separators.load(str(path), "cpu")
    with pytest.raises(ModelError, match="no weight file"):
        separators.load(str(tmp_path / "none.safetensors"), "cpu")


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'opensep-small'"):
        separators.load("opensep-smal", "cpu")


def test_a_published_file_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = hub.find(hub.DEFAULT)
    copy = tmp_path / published.file
    copy.write_bytes((hub.FOLDER / published.file).read_bytes()[:-1] + b"\0\0")
    monkeypatch.setattr(hub, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match="sha256"):
        hub.path_of(published)


def test_every_published_model_is_whole_small_and_has_a_card() -> None:
    total = 0
    for name, weights in hub.WEIGHTS.items():
        path = hub.path_of(weights)
        total += path.stat().st_size
        assert path.stat().st_size <= 12e6
        card = hub.card(name)
        for heading in ("Data", "Licence", "Command", "Hardware", "Scores", "fails"):
            assert heading.lower() in card.lower(), f"{name}: the card lacks {heading}"
        with safe_open(path, framework="pt") as opened:
            numbers = sum(math.prod(opened.get_slice(key).get_shape()) for key in list(opened.keys()))
        assert numbers == weights.parameters
    assert hub.load(OpenSep, OpenSepConfig, hub.path_of(hub.find(hub.DEFAULT)))
    assert total <= 90e6
