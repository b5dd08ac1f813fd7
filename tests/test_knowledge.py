"""What is known of how things sound, and that the engine is told."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError
from unweave.language import knowledge
from unweave.language.knowledge import Knowledge
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.separators.opensep import OpenSepSeparator
from unweave.types import Query


@pytest.fixture(scope="module")
def known() -> Knowledge:
    return Knowledge(MiniLM())


def test_the_table_tells_and_does_not_name() -> None:
    found = knowledge.table()
    assert len(found) > 4000
    for name, told in found.items():
        assert name == knowledge.plainly(name)
        assert 2 <= len(told.split()) <= 25, name
        assert told.isascii(), name
        assert len(told) < 200, name


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("Dog  Barking", "dog barking"),  # spelt otherwise
        ("a toilet being flushed", "toilet flushing"),  # in other words
        ("the vacuum cleaner", "vacuum cleaner"),
        ("someone playing the mandolin", "mandolin"),
    ],
)
def test_names_are_found_by_meaning(known: Knowledge, asked: str, named: str) -> None:
    assert known.sounds_like(asked) == knowledge.table()[named]


@pytest.mark.parametrize("asked", ["xyzzy", "my neighbour", "犬の鳴き声", "dog and rain", "rain, wind"])
def test_what_is_not_known_is_not_made_up(known: Knowledge, asked: str) -> None:
    assert known.sounds_like(asked) == ""


def test_several_sounds_are_told_one_by_one(known: Knowledge) -> None:
    told = knowledge.table()
    both = f"clarinet: {told['clarinet']} and mandolin: {told['mandolin']}"
    assert known.enriched(Query("clarinet and mandolin")) == both
    assert known.enriched(Query("rain and xyzzy")) == "rain and xyzzy", "a word may be no sound"
    assert known.enriched(Query("rock and roll")) == f"rock and roll: {told['rock and roll']}"
    assert known.enriched(Query(" xyzzy ")) == "xyzzy"
    assert known.enriched(Query(",")) == ","
    assert known.enriched(Query("rain", sounds_like="a soft hiss")) == "rain: a soft hiss"


def test_a_name_that_was_trained_on_needs_no_telling(known: Knowledge) -> None:
    assert {"dog barking", "rain", "cello"} <= knowledge.trained()
    assert not {"clarinet", "vacuum cleaner"} & knowledge.trained()
    for asked in ("dog barking", "the sound of a dog barking", "rain and wind", "someone playing the cello"):
        assert known.enriched(Query(asked)) == asked
    assert known.enriched(Query("the vacuum cleaner")).startswith("the vacuum cleaner: loud ")


def test_a_name_is_found_with_and_without_its_article(known: Knowledge) -> None:
    told = knowledge.table()
    for asked in ("a dog barking", "the sound of a dog barking", "Dog barking"):
        assert known.sounds_like(asked) == told["dog barking"]
    assert known.sounds_like("someone playing the cello") == told["cello"]
    assert known.sounds_like("baby\u2019s crying") == known.sounds_like("baby's crying")


def test_what_would_be_too_long_stays_as_it_was(known: Knowledge) -> None:
    names = ", ".join(sorted(knowledge.table().keys() - knowledge.trained())[:300:10])
    assert known.enriched(Query(names)) == names


def test_vectors_of_another_table_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.safetensors"
    save_file({"names": torch.zeros(3, 384)}, old, metadata={"table": "another"})
    monkeypatch.setattr(knowledge, "VECTORS", old)
    with pytest.raises(ModelError, match=r"python -m unweave\.language\.knowledge"):
        Knowledge(MiniLM()).sounds_like("a toilet being flushed")
    with pytest.raises(ModelError, match=r"python -m unweave\.language\.knowledge"):
        knowledge.verified()
    monkeypatch.setattr(knowledge, "VECTORS", tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="missing"):
        Knowledge(MiniLM()).sounds_like("a toilet being flushed")


def test_the_engine_is_told(known: Knowledge) -> None:
    torch.manual_seed(0)
    network = OpenSep(OpenSepConfig(bands=32, widths=(8, 16, 24), heads=2, layers=1)).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    engine = OpenSepSeparator(network, MiniLM())
    mixture = torch.randn(1, 16_000)
    told = knowledge.table()["mandolin"]
    plain, same, other = engine.separate(
        mixture,
        [
            Query("mandolin"),
            Query("mandolin", sounds_like=told),
            Query("mandolin", sounds_like="a low hum"),
        ],
    )
    assert torch.equal(plain, same)
    assert not torch.equal(plain, other), "what the user says of the sound goes first"
