"""What is known of how things sound, and that the engine is told."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unweave.encoders.minilm import MiniLM
from unweave.errors import ChatError, ModelError
from unweave.language import acoustics, knowledge
from unweave.language.knowledge import Knowledge
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.separators.opensep import OpenSepSeparator
from unweave.types import LONGEST_QUERY, Query

VOCABULARIES = (Path(__file__).parent / "data" / "vocabularies.txt").read_text(encoding="utf-8").splitlines()
KAZOO = {
    "is_sound": True,
    "range_hz": [300, 4000],
    "fundamental_hz": [150, 700],
    "tone": "harmonic",
    "timbre": "buzzing, nasal",
    "envelope": "quick onset, sustained",
    "rhythm": "melodic",
    "seconds": [0.2, 4],
    "level": "moderate",
    "look_alikes": ["duck quacking"],
}


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


def test_every_name_of_the_public_vocabularies_and_of_training_is_known(known: Knowledge) -> None:
    names = [line for line in VOCABULARIES if not line.startswith("#")]
    labels = knowledge._sources()[0]
    assert len(names) > 527 + 305 + 50 + 20
    assert len(labels) == 454
    guessed = [name for name in [*names, *labels] if (found := known.sound(name)) is None or found.guessed]
    assert guessed == []


@pytest.mark.parametrize(
    ("asked", "entry"),
    [
        ("a dog barking", "dog barking"),
        ("Chicken, rooster", "hen clucking"),
        ("cattle, bovinae cowbell", "cowbell"),
        ("Female speech, woman speaking", "female speech"),
        ("acoustic_guitar", "acoustic guitar"),
        ("someone playing the mandolin", "mandolin"),
        ("Zipper (clothing)", "zipper"),
    ],
)
def test_facts_are_those_of_the_sound_that_is_meant(known: Knowledge, asked: str, entry: str) -> None:
    found = known.sound(asked)
    assert found == acoustics.stated(entry)
    assert (found.name, found.by, found.guessed) == (entry, "table", False)


def test_facts_are_facts() -> None:
    for name, entry in acoustics.facts().items():
        found = acoustics.stated(name)
        assert name == knowledge.plainly(name)
        for low, high in filter(None, (found.range_hz, found.fundamental_hz, found.seconds)):
            assert 0 < low <= high, name
        assert 20 <= found.range_hz[0] < found.range_hz[1] <= 16_000, name
        assert found.fundamental_hz or found.tone != "harmonic", f"{name} has a tone and no pitch"
        if found.fundamental_hz:
            assert found.fundamental_hz[0] < found.range_hz[1], f"{name} has its pitch above its range"
        assert found.tone in acoustics.TONES
        assert found.level in acoustics.LEVELS
        assert 1 <= len(found.look_alikes) <= 4
        assert name not in found.look_alikes
        assert entry.keys() <= {*_FIELDS, "names", "why"}
        for words in (found.timbre, found.envelope, found.rhythm, *found.look_alikes):
            assert re.fullmatch(r"[a-z0-9][A-Za-z0-9 .,'&-]+", words), (name, words)


_FIELDS = ("hz", "f0", "tone", "timbre", "envelope", "rhythm", "seconds", "level", "like")


def test_facts_of_sounds_that_everybody_can_tell_apart() -> None:
    def centre(name: str) -> float:
        low, high = acoustics.stated(name).range_hz
        return (low * high) ** 0.5

    for rising in (
        ["double bass", "cello", "viola", "violin", "piccolo"],
        ["thunderstorm", "male speech", "female speech", "rain", "hi-hat", "crickets chirping"],
    ):
        assert all(centre(one) < centre(other) for one, other in itertools.pairwise(rising)), rising
    assert acoustics.stated("rain").fundamental_hz is None
    assert acoustics.stated("rain").tone == "noisy"
    assert acoustics.stated("mosquito buzzing").level == "faint"


def test_a_sentence_fits_into_a_query(known: Knowledge) -> None:
    reads = MiniLM().reads
    for name in acoustics.facts():
        told = acoustics.stated(name).sentence()
        assert len(told.split()) < 30, name
        assert len(told) < LONGEST_QUERY
        query = Query(name, sounds_like=told)
        assert reads(known.enriched(query)), name
        assert "\n" not in told


def test_an_unknown_name_gets_a_guess_that_says_so(known: Knowledge) -> None:
    found = known.sound("grandfather's old lawnmower")
    assert found is not None
    assert (found.name, found.guessed, found.by, found.note) == ("lawn mower", True, "nearest", "")
    exact = known.sound("lawn mower")
    assert dataclasses.replace(found, guessed=False, by="table") == exact


@pytest.mark.parametrize(
    "asked", ["xyzzy", "my neighbour", "", "  ", "犬の鳴き声", "dog and rain", "tax return"]
)
def test_no_facts_where_nothing_is_near(known: Knowledge, asked: str) -> None:
    assert known.sound(asked) is None


def test_a_chat_is_asked_about_unknown_names_only(known: Knowledge) -> None:
    asked: list[str] = []

    def chat(prompt: str) -> str:
        asked.append(prompt)
        return f"Here you are: ```{json.dumps(KAZOO)}```"

    assert known.sound("dog barking", chat) == acoustics.stated("dog barking")
    assert asked == []
    found = known.sound(" Vuvuzela\nband ", chat)
    assert '"Vuvuzela band"' in asked[0]
    assert found == acoustics.Sound(
        name="Vuvuzela band",
        range_hz=(300, 4000),
        fundamental_hz=(150, 700),
        tone="harmonic",
        timbre="buzzing, nasal",
        envelope="quick onset, sustained",
        rhythm="melodic",
        seconds=(0.2, 4),
        level="moderate",
        look_alikes=("duck quacking",),
        by="chat",
    )
    assert not found.guessed
    assert found.sentence() == "buzzing nasal midrange tones with quick onset sustained, melodic"


@pytest.mark.parametrize(
    "fault",
    [
        {"range_hz": [4000, 300]},
        {"range_hz": [-5, 300]},
        {"range_hz": [5000]},
        {"fundamental_hz": [200]},
        {"tone": "nice"},
        {"timbre": "x" * 1000},
        {"look_alikes": ["a dog"] * 50},
        {"is_sound": False},
        {"note": "one more key"},
    ],
)
def test_a_chat_that_lies_leaves_the_nearest_name(known: Knowledge, fault: dict[str, object]) -> None:
    found = known.sound("grandfather's old lawnmower", lambda _: json.dumps(KAZOO | fault))
    assert found is not None
    assert (found.name, found.by, found.guessed) == ("lawn mower", "nearest", True)
    assert found.note.startswith("facts of the nearest name, because of the chat: ")
    assert known.sound("xyzzy", lambda _: json.dumps(KAZOO | fault)) is None


def test_a_chat_that_is_down_leaves_the_nearest_name(known: Knowledge) -> None:
    def chat(_: str) -> str:
        raise ChatError("no answer")

    found = known.sound("grandfather's old lawnmower", chat)
    assert found is not None
    assert found.note == "facts of the nearest name, because of the chat: no answer"
    assert known.sound("x" * 30_000, chat) is None
