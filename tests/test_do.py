"""A recording after an instruction: the gains are those of the plan, to rounding, in memory and in files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unweave
from tones import ToneEars, ToneSplit, fitted
from tones import sound as tones_of
from unweave import separators
from unweave.errors import OutputError, QueryError
from unweave.language.instruct import plan
from unweave.language.plans import REMOVED, Edit, Plan
from unweave.pipeline.edit import remove, separate
from unweave.pipeline.files import OutputOptions
from unweave.pipeline.remix import remix, remix_file
from unweave.pipeline.rig import Rig
from unweave.signal.masks import span_gain
from unweave.types import Audio

STREET = Path(__file__).parent / "data" / "street.flac"
ROUNDING = 2e-7


@pytest.fixture(scope="module")
def engine():
    return separators.load(device="cpu")


@pytest.fixture(scope="module")
def street():
    return unweave.read(STREET)


@pytest.fixture(scope="module")
def both(street, engine):
    """The dog, the rain and the rest, from one separation."""
    return [stem.audio.samples for stem in separate(street, ["dog", "rain"], model=engine)]


def difference(one, other):
    return (one - other).abs().max().item()


def test_removing_one_sound_is_remove(street, engine):
    done = unweave.do(street, "remove the rain", model=engine)
    assert torch.equal(done.samples, remove(street, "rain", model=engine).samples)
    assert (done.sample_rate, done.samples.shape) == (street.sample_rate, street.samples.shape)
    assert difference(done.samples, street.samples) > 0.05


def test_only_one_sound_is_its_stem(street, engine):
    (dog, _) = separate(street, ["dog"], model=engine)
    assert torch.equal(unweave.do(street, "only the dog", model=engine).samples, dog.audio.samples)


def test_a_gain_in_db_is_that_gain(street, engine):
    (dog, _) = separate(street, ["dog"], model=engine)
    done = unweave.do(street, "dog 6 dB quieter", model=engine)
    wanted = street.samples - (1 - 10 ** (-6 / 20)) * dog.audio.samples
    assert difference(done.samples, wanted) < ROUNDING
    assert difference(done.samples, street.samples) > 0.05


def test_several_sounds_come_from_one_separation(street, engine, both):
    """Two sounds may overlap in time and pitch; asked for together they share, and add up with the rest."""
    dog, rain, rest = both
    done = unweave.do(
        street, "dog 3 dB louder, remove the rain, lower everything else by 10 dB", model=engine
    )
    wanted = 10 ** (3 / 20) * dog + 10 ** (-10 / 20) * rest
    assert difference(done.samples, wanted) < ROUNDING
    assert difference(dog + rain + rest, street.samples) < ROUNDING


def test_outside_its_times_a_sound_is_like_the_rest(street, engine):
    rate = street.sample_rate
    outside = torch.ones(street.samples.shape[1], dtype=torch.bool)
    outside[round(0.97 * rate) : round(3.03 * rate)] = False
    inside = slice(rate, 3 * rate)
    changed = unweave.do(street, "remove the dog between 1 and 3 s", model=engine).samples
    assert torch.equal(changed[:, outside], street.samples[:, outside])
    assert difference(changed[:, inside], street.samples[:, inside]) > 0.05
    alone = unweave.do(street, "only the dog between 1 and 3 s", model=engine).samples
    assert not alone[:, outside].any()
    assert difference(alone[:, inside] + changed[:, inside], street.samples[:, inside]) < ROUNDING


def test_a_later_edit_wins_where_it_applies(street, engine, both):
    todo = Plan((Edit("dog", 6.0), Edit("dog", REMOVED, ((3.0, math.inf),)), Edit("rain", -6.0)))
    dog, rain, rest = both
    fade = span_gain([(3.0, 7.0)], street.samples.shape[1], street.sample_rate).double()
    gain = 10 ** (6 / 20) * (1 - fade)
    wanted = gain * dog + 10 ** (-6 / 20) * rain + rest
    assert difference(remix(street, todo, model=engine).samples, wanted) < 2 * ROUNDING


def test_everything_louder_needs_no_engine(street):
    done = unweave.do(street, "make everything 6 dB quieter", model=None)
    assert difference(done.samples, 10 ** (-6 / 20) * street.samples) < ROUNDING


def test_silence_and_an_empty_recording_stay_what_they_are(engine):
    for samples in (torch.zeros(2, 1000), torch.zeros(1, 0)):
        assert torch.equal(unweave.do(Audio(samples, 8000), "dog 6 dB louder", model=engine).samples, samples)


def test_times_past_the_end_are_refused(street, engine, tmp_path):
    with pytest.raises(QueryError, match=r"from 10 s on, but the recording has 6.00 s"):
        unweave.do(street, "remove the dog after 10 s", model=engine)
    with pytest.raises(QueryError, match=r"6.00 s"):
        remix_file(
            STREET, plan("remove the dog after 10 s"), tmp_path / "x.wav", Rig(engine), OutputOptions()
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_a_file_is_what_memory_is(street, engine, tmp_path, subtype):
    todo = plan("remove the dog between 1 and 3 s, rain 6 dB quieter")
    out = tmp_path / "new" / "done.wav"
    result = remix_file(STREET, todo, out, Rig(engine, "opensep-small"), OutputOptions(subtype=subtype))
    found, rate = soundfile.read(out, dtype="float32")
    wanted = remix(street, todo, model=engine).samples.T.numpy()
    assert (rate, found.shape) == (44_100, wanted.shape)
    assert np.abs(found - wanted).max() < (1e-6 if subtype == "FLOAT" else 2**-16 + 1e-6)
    assert (result.sample_rate, result.channels, result.frames) == (44_100, 2, len(wanted))
    assert (result.gain_db, result.warnings) == (0.0, ())
    assert [(sound.name, sound.found) for sound in result.sounds] == [("dog", True), ("rain", True)]
    assert [path.name for path in out.parent.iterdir()] == ["done.wav"]


@pytest.mark.parametrize(
    ("todo", "said"),
    [
        (Plan((Edit("cow", REMOVED),)), ["hardly anything was done to it"]),
        (Plan((Edit("cow", 6.0),), -3.0), ["changed by -3.0 dB like the rest"]),
        (Plan((Edit("cow", 0.0),), REMOVED), ["removed with the rest", "the result is silence"]),
        (Plan((Edit("cow", 0.0), Edit("low hum", 0.0)), REMOVED), ["removed with the rest"]),
    ],
)
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_what_is_not_there_is_said(tmp_path, todo, said, subtype):
    samples = tones_of(5, ("low hum", 1.0, 4.0, 0.3)).T.numpy()
    soundfile.write(tmp_path / "hum.wav", samples, 8000, "FLOAT")
    rig = Rig(ToneSplit(), "tones", ToneEars(), "tone ears", fitted())
    result = remix_file(
        tmp_path / "hum.wav", todo, tmp_path / "done.wav", rig, OutputOptions(subtype=subtype)
    )
    assert len(result.warnings) == len(said)
    assert result.warnings[0].startswith("'cow' was not found")
    assert all(words in warning for words, warning in zip(said, result.warnings, strict=True))
    assert (result.sounds[0].name, result.sounds[0].found) == ("cow", False)
    done = soundfile.read(tmp_path / "done.wav", dtype="float32")[0]
    gain = 10 ** (todo.rest_db / 20) if "low hum" not in todo.names else 1.0
    assert np.abs(done - gain * samples).max() < (2**-15 if gain != 1 or len(todo.names) == 1 else 0.02)


def test_what_would_clip_is_lowered_and_said(street, engine, tmp_path):
    todo = plan("dog 20 dB louder")
    loud = remix(street, todo, model=engine).samples
    peak = loud.abs().max().item()
    assert peak > 2
    result = remix_file(STREET, todo, tmp_path / "loud.wav", Rig(engine), OutputOptions())
    found = soundfile.read(tmp_path / "loud.wav", dtype="float32")[0].T
    assert result.gain_db == pytest.approx(-20 * math.log10(peak), abs=0.01)
    assert np.abs(found - loud.numpy() * 10 ** (result.gain_db / 20)).max() < 2**-15
    assert any("lowered" in warning and "FLOAT" in warning for warning in result.warnings)
    result = remix_file(STREET, todo, tmp_path / "float.wav", Rig(engine), OutputOptions(subtype="FLOAT"))
    assert (result.gain_db, result.warnings) == (0.0, ())
    assert soundfile.read(tmp_path / "float.wav")[0].max() > 1


def test_nothing_is_replaced_unasked(engine, tmp_path):
    copy = tmp_path / "street.flac"
    copy.write_bytes(STREET.read_bytes())
    for out, why in ((copy, "never replaced"), (tmp_path / "there.wav", "exists already")):
        (tmp_path / "there.wav").write_text("mine")
        with pytest.raises(OutputError, match=why):
            remix_file(copy, plan("remove the rain"), out, Rig(engine), OutputOptions())
    assert (tmp_path / "there.wav").read_text() == "mine"
    assert copy.read_bytes() == STREET.read_bytes()


def test_the_plan_that_is_shown_is_the_plan_that_runs(cli, sound, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, words = sound("street.wav"), "take out the traffic, birds 6 dB quieter between 0.1 and 0.3 s"
    engine = ("--model", tiny, "--listener", "none", "--subtype", "FLOAT")
    shown = cli("do", file, words, "--dry-run", "--json")
    assert shown.code == 0
    assert shown.documents == [
        {
            "edits": [
                {"name": "traffic", "gain_db": None, "spans": []},
                {"name": "birds", "gain_db": -6.0, "spans": [[0.1, 0.3]]},
            ],
            "rest_db": 0.0,
            "by": "rules",
            "note": "",
        }
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["street.wav"]

    (tmp_path / "plan.json").write_text(shown.out)
    said = cli("do", file, words, *engine, "--json")
    planned = cli("do", file, "--plan", "plan.json", *engine, "-o", "planned.wav")
    assert (said.code, planned.code) == (0, 0)
    (document,) = said.documents
    assert document["plan"] == shown.documents[0]
    assert document["out"] == "street-take-out-the-traffic-birds-6-db-quieter-between-0-1-and-0-3-s.wav"
    assert planned.out.strip() == "planned.wav"
    assert "traffic   removed" in planned.err
    one, other = (soundfile.read(path)[0] for path in (document["out"], "planned.wav"))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, soundfile.read(file)[0])


def test_a_plan_for_people(cli):
    ran = cli("do", "street.wav", "only the dog after 5 s", "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "sound     gain     when",
        "dog       kept     0:05 to the end",
        "the rest  removed",
        "read by: rules",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["street.wav", "what is in here?", "--json"], 2),
        (["street.wav", "--json"], 2),
        (["street.wav", "remove the rain", "--plan", "plan.json", "--json"], 2),
        (["street.wav", "--plan", "gone.json", "--json"], 2),
        (["street.wav", "remove the rain", "--chat", "oracle:delphi", "--json"], 2),
        ([".", "remove the rain", "--json"], 2),
        (["gone.wav", "remove the rain", "--json", "--listener", "none"], 4),
    ],
)
def test_errors_have_codes(cli, tiny, tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    ran = cli("do", *words, "--model", tiny)
    assert ran.code == code
    assert ran.documents[-1]["error"]["exit_code"] == code
    assert list(tmp_path.iterdir()) == []


def test_a_document_is_json_that_others_can_read(cli, sound, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = cli("do", sound("a.wav"), "mute the dog", "--json", "-q", "--model", tiny, "--listener", "none")
    (document,) = ran.documents
    assert document["status"] == "done"
    assert document["frames"] == 8000
    assert [one["name"] for one in document["sounds"]] == ["dog"]
    assert json.loads(ran.out)["plan"]["edits"][0]["gain_db"] is None
