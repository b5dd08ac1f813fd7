"""The command line as a user meets it: what is written, said and returned, above all when things go wrong."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import DATA
from unweave import __version__, console

Cli = Callable[..., Any]  # conftest.Ran
Sound = Callable[..., Path]
DEAF = ("--listener", "none")  # what is tested here does not depend on what is heard


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has the current folder to itself, and its environment back afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_separate_writes_tracks_that_add_up(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    street = sound("street.wav")
    ran = cli(
        "separate",
        street,
        "dog barking",
        "rain",
        "-o",
        tmp_path / "out",
        "--model",
        tiny,
        *DEAF,
        "--subtype",
        "FLOAT",
    )

    assert ran.code == 0
    tracks = ["01-dog-barking.wav", "02-rain.wav", "residual.wav"]
    assert files_in(tmp_path / "out") == [f"street/{name}" for name in [*tracks, "separation.json"]]
    assert ran.out.splitlines() == [str(tmp_path / "out" / "street" / name) for name in tracks]
    assert "device: cpu (" in ran.err
    read = [soundfile.read(path)[0] for path in ran.out.splitlines()]
    assert np.abs(sum(read) - soundfile.read(street)[0]).max() < 1e-6


def test_separate_tells_programs_all(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    ran = cli(
        "separate", sound("a.wav"), sound("b.wav"), "-Q", "gone.wav", "--json", "-q", "--model", tiny, *DEAF
    )
    assert ran.code == 0
    first, second = ran.documents
    assert (first["file"], first["status"]) == (str(tmp_path / "a.wav"), "done")
    assert (second["out"], second["source"]["sample_rate"]) == ("separated/b", 16_000)
    assert [stem["label"] for stem in first["stems"]] == ["gone.wav", "residual"]
    assert first["stems"][0]["file"] == "01-gone-wav.wav"
    assert ran.err == "" or "query not found" not in ran.err


def test_a_file_alone_is_split_into_what_is_heard(cli: Cli, sound: Sound, tiny: Path, ears: Path) -> None:
    street = sound("street.wav", seconds=2)
    flags = ("--model", tiny, "--listener", ears, "--subtype", "FLOAT", "-o", "out")
    ran = cli(street, *flags, "--json", "--tracks", 3)
    assert ran.code == 0
    (said,) = ran.documents
    assert said["automatic"]
    assert said["listener"]["name"] == str(ears)
    labels = [track["label"] for track in said["stems"]]
    assert labels[-1] == "residual"
    assert len(set(labels)) == len(labels) <= 4
    folder = Path(said["out"])
    assert {"labels.txt", "events.csv", "separation.json"} <= set(files_in(folder))
    read = [soundfile.read(folder / track["file"])[0] for track in said["stems"]]
    assert np.abs(sum(read) - soundfile.read(street)[0]).max() < 1e-6
    again = cli("separate", ".", *flags, "--skip-existing", "--json")
    assert [line["status"] for line in again.documents] == ["skipped"]


def test_silence_alone_is_one_track(cli: Cli, tiny: Path, ears: Path) -> None:
    soundfile.write("silence.wav", np.zeros((8000, 1)), 8000)
    ran = cli("silence.wav", "--model", tiny, "--listener", ears)
    assert ran.code == 0
    assert [Path(line).name for line in ran.out.splitlines()] == ["residual.wav"]
    assert "no sound was recognised" in ran.err


def test_an_example_is_heard_as_a_name(cli: Cli) -> None:
    """With the weights that come along: a dog is asked for by the bark of one, and by a stretch of it."""
    street, bark = DATA / "street.flac", DATA / "dog-barking.flac"
    ran = cli("separate", street, "rain", "--like", f"{bark}@0-1.5", "--json")
    assert ran.code == 0
    assert "heard as '" in ran.err
    assert ran.documents[0]["stems"][1]["kind"] == "example"
    assert "dog" in ran.documents[0]["stems"][1]["label"]
    soundfile.write("silence.wav", np.zeros((8000, 1)), 8000)
    ran = cli("separate", street, "--like", "silence.wav")
    assert (ran.code, "nothing is recognised" in ran.err) == (2, True)
    assert cli("separate", street, "--like", f"{bark}@900-901").code == 2
    assert cli("separate", street, "--like", "gone.wav").code == 4


def test_extract_and_remove_are_two_halves(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    street = sound("street.wav", rate=22_050)
    flags = ("--model", tiny, *DEAF, "--subtype", "FLOAT", "--span", "0.1-0.4", "--not", "rain")
    kept = cli("extract", street, "a dog", "-o", tmp_path / "new" / "dog.wav", *flags)
    left = cli("remove", street, "a dog", *flags)

    assert (kept.code, left.code) == (0, 0)
    assert kept.out.strip() == str(tmp_path / "new" / "dog.wav")
    assert left.out.strip() == "street-without-a-dog.wav"
    halves = [soundfile.read(ran.out.strip())[0] for ran in (kept, left)]
    assert np.abs(sum(halves) - soundfile.read(street)[0]).max() < 1e-6


def test_extract_into_a_folder_names_the_file(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    ran = cli(
        "extract",
        sound("street.wav"),
        "a dog",
        "-o",
        "into",
        "--format",
        "flac",
        "--model",
        tiny,
        *DEAF,
        "--json",
    )
    assert ran.code == 0
    assert files_in(tmp_path / "into") == ["street-a-dog.flac"]
    assert ran.documents[0]["stems"][0]["file"] == "street-a-dog.flac"


def test_a_folder_goes_on_after_a_bad_file(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    sound("in/a.wav")
    sound("in/sub/B.WAV")
    (tmp_path / "in" / "bad.mp3").write_text("this is text")
    flags = ("rain", "-r", "-o", "out", "--model", tiny, *DEAF, "--json")

    ran = cli("separate", "in", *flags)
    assert ran.code == 3
    assert [(Path(line["file"]).name, line["status"]) for line in ran.documents] == [
        ("a.wav", "done"),
        ("bad.mp3", "failed"),
        ("B.WAV", "done"),
    ]
    assert ran.documents[1]["error"]["exit_code"] == 4
    assert "2 done, 0 skipped, 1 failed" in ran.err
    assert {Path(name).parent.as_posix() for name in files_in(tmp_path / "out")} == {"a", "sub/B"}

    again = cli("separate", "in", *flags, "--skip-existing")
    assert [line["status"] for line in again.documents] == ["skipped", "failed", "skipped"]
    assert "0 done, 2 skipped, 1 failed" in again.err


def test_same_name_twice_overwrites_nothing(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    ran = cli(
        "separate",
        sound("a/x.wav"),
        sound("b/x.wav", rate=8000),
        sound("x.flac"),
        "rain",
        "--model",
        tiny,
        *DEAF,
    )
    assert ran.code == 0
    places = {Path(line).parent.as_posix() for line in ran.out.splitlines()}
    assert places == {"separated/x-wav", "separated/x-wav-2", "separated/x-flac"}


@pytest.mark.parametrize(
    "name",
    [
        "-take 1.wav",
        "ünï 犬 🎧.wav",
        "two\nlines.wav",
        "con.wav",
        "a'b\"c.wav",
        "x" * 200 + ".wav",
        "100%.wav",
    ],
)
def test_odd_names_work(cli: Cli, sound: Sound, tiny: Path, name: str) -> None:
    sound(name)
    ran = cli("separate", "--model", tiny, *DEAF, "-o", "out", "--json", "--", name, "rain")
    assert ran.code == 0
    assert ran.documents[0]["file"] == name
    assert (Path(ran.documents[0]["out"]) / "01-rain.wav").is_file()
    if name.startswith("-"):
        assert cli("extract", f"./{name}", "rain", "--model", tiny, *DEAF).code == 0


def test_silence_gives_silent_tracks(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    soundfile.write("silence.wav", np.zeros((4000, 1)), 8000)
    ran = cli("separate", "silence.wav", "rain", "--model", tiny, *DEAF)
    assert ran.code == 0
    assert all(np.abs(soundfile.read(path)[0]).max() == 0 for path in ran.out.splitlines())


def test_words_in_another_language_work_and_are_warned_about(cli: Cli, sound: Sound, tiny: Path) -> None:
    ran = cli("separate", sound("street.wav"), "犬の鳴き声", "--model", tiny, *DEAF)
    assert ran.code == 0
    assert "01-犬の鳴き声.wav" in ran.out
    assert "English" in ran.err


def make_bad_input(name: str) -> Path:
    path = Path(name)
    if name == "empty.wav":
        path.touch()
    elif name == "text.mp3":
        path.write_text("To be, or not to be, that is the question.\n" * 100)
    elif name == "nan.wav":
        soundfile.write(path, np.full((800, 1), np.nan), 8000, subtype="FLOAT")
    elif name == "no-samples.wav":
        with wave.open(name, "wb") as header_only:
            header_only.setnchannels(1)
            header_only.setsampwidth(2)
            header_only.setframerate(8000)
    elif name == "picture.mp4":
        import av

        with av.open(name, "w") as film:
            stream = film.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            film.mux(stream.encode(frame))
            film.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "name", ["missing.wav", "empty.wav", "text.mp3", "nan.wav", "no-samples.wav", "picture.mp4"]
)
@pytest.mark.parametrize("command", ["separate", "extract"])
def test_an_unreadable_input_is_4(cli: Cli, tiny: Path, tmp_path: Path, name: str, command: str) -> None:
    path = make_bad_input(name)
    ran = cli(command, path, "rain", "--model", tiny, *DEAF, "-o", "out", "--json")
    assert ran.code == 4
    assert name in ran.err
    assert "Traceback" not in ran.err
    assert ran.documents[-1]["error"]["exit_code"] == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["separate", "street.wav"], "no sound was named"),
        (["separate", "street.wav", ""], "empty"),
        (["extract", "street.wav", " "], "empty"),
        (["separate", "street.wav", "x" * 10_000], "10000"),
        (["separate", "street.wav", "Rain ", "rain"], "twice"),
        (["separate", "street.wav", "rain", "dog", "--not", "cat"], "--not"),
        (["separate", "street.wav", "rain", "--span", "later"], "START-END"),
        (["separate", "street.wav", "rain", "--span", "3-2"], "span"),
        (["separate", "street.wav", "rain", "--model", "opensep-smal"], "opensep-smal"),
        (["separate", "street.wav", "rain", "--filename", "{nope}.wav"], "nope"),
        (["separate", "street.wav", "rain", "--format", "xyz"], "xyz"),
        (["extract", ".", "rain"], "folder"),
        (["separate", "street.wav", "rain", "--loud"], "--loud"),
        (["separate"], "--help"),
        (["seperate", "street.wav"], "separate"),
        (["street.wav", *DEAF], "no sound was named"),
        (["separate", "street.wav", "--like", "street.wav"], "--like street.wav takes a listener"),
        (["separate", "street.wav", "--not", "cat"], "--not"),
        (["separate", "street.wav", "rain", "--like", "b.wav", "--not", "cat"], "--not"),
        (["separate", "street.wav", "--tracks", "0"], "--tracks"),
        (["models", "info", "nope"], "nope"),
        (["train", "nope.toml", "--data", "."], "nope.toml"),
    ],
)
def test_a_request_that_makes_no_sense_is_2(
    cli: Cli, sound: Sound, tiny: Path, words: list[str], named: str
) -> None:
    sound("street.wav")
    if words[0] in ("separate", "extract") and "--model" not in words:
        words = [*words, "--model", str(tiny), *DEAF]
    before = files_in(Path())
    ran = cli(*words, "--json") if words[0] != "train" else cli(*words)
    assert ran.code == 2
    assert named in ran.err
    assert "Traceback" not in ran.err
    assert files_in(Path()) == before


def test_a_missing_file_among_others_stops_before_any_work(
    cli: Cli, sound: Sound, tiny: Path, tmp_path: Path
) -> None:
    ran = cli("separate", sound("a.wav"), "gone/b.wav", "rain", "--model", tiny, *DEAF)
    assert (ran.code, ran.out) == (4, "")
    assert "gone/b.wav" in ran.err
    assert not (tmp_path / "separated").exists()


def test_damaged_or_missing_weights_are_5(cli: Cli, sound: Sound, tiny: Path) -> None:
    Path("cut.safetensors").write_bytes(tiny.read_bytes()[:-1000])
    Path("text.safetensors").write_text("not weights")
    for weights in ("cut.safetensors", "text.safetensors", "gone/x.safetensors"):
        ran = cli("separate", sound("street.wav"), "rain", "--model", weights, *DEAF)
        assert ran.code == 5, weights
        assert weights in ran.err


def test_a_device_that_is_not_there_is_6(cli: Cli, sound: Sound, tiny: Path) -> None:
    import torch

    absent = "cuda" if not torch.cuda.is_available() else "mps"
    ran = cli("separate", sound("street.wav"), "rain", "--model", tiny, *DEAF, "--device", absent)
    assert ran.code == 6
    assert absent in ran.err


def test_running_out_of_memory_is_6_and_known_by_what_torch_really_raises() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert console.exit_code(caught.value) == 6
    assert "out of memory" in console.message_of(caught.value)


def test_what_is_there_is_kept(cli: Cli, sound: Sound, tiny: Path, tmp_path: Path) -> None:
    street = sound("street.wav")
    Path("her.wav").write_text("precious")
    for words in (["-o", "her.wav"], ["-o", "street.wav", "--overwrite"]):
        ran = cli("extract", street, "rain", *words, "--model", tiny, *DEAF)
        assert ran.code == 7, words
    assert Path("her.wav").read_text() == "precious"
    assert cli("extract", street, "rain", "-o", "her.wav", "--overwrite", "--model", tiny, *DEAF).code == 0
    assert soundfile.info("her.wav").frames == soundfile.info(street).frames

    assert cli("separate", street, "rain", "--model", tiny, *DEAF).code == 0
    assert cli("separate", street, "rain", "--model", tiny, *DEAF).code == 7
    assert cli("separate", street, "rain", "--model", tiny, *DEAF, "--overwrite").code == 0


def test_a_place_that_cannot_be_written_is_7(cli: Cli, sound: Sound, tiny: Path) -> None:
    Path("file").touch()  # nothing can be made below a file, not even by root
    assert cli("separate", sound("street.wav"), "rain", "-o", "file/out", "--model", tiny, *DEAF).code == 7
    assert cli("extract", "street.wav", "rain", "-o", "file/rain.wav", "--model", tiny, *DEAF).code == 7


def test_models_are_listed_with_their_scores(cli: Cli) -> None:
    from unweave import hub

    listed, told = cli("models", "list"), cli("models", "list", "--json")
    assert listed.code == told.code == cli("models").code == 0
    assert [weights["name"] for weights in told.documents[0]] == list(hub.WEIGHTS)
    for weights in hub.WEIGHTS.values():
        assert weights.name in listed.out
        assert weights.licence in listed.out
        assert cli("models", "info", weights.name).out.startswith("#")
        assert cli("models", "info", weights.name, "--json").documents[0]["sha256"] == weights.sha256


def test_doctor_finds_what_is_wrong(cli: Cli, tiny: Path) -> None:
    well = cli("doctor", "--model", tiny, "--device", "cpu", "--threads", 1)
    assert well.code == 0, well.out
    for name in ("packages", "codecs", "device", "text encoder", "self-test", "seconds per second"):
        assert name in well.out

    Path("cut.safetensors").write_bytes(tiny.read_bytes()[:-1000])
    ill = cli("doctor", "--model", "cut.safetensors", "--json")
    assert ill.code == 5
    (document,) = ill.documents
    assert not document["ok"]
    assert [check["name"] for check in document["checks"] if not check["ok"]] == ["self-test"]


def test_help_and_version(cli: Cli) -> None:
    assert cli("--version").out.strip() == f"unweave {__version__}"
    assert "Examples:" in cli("--help").out
    assert cli().code == 0
    for command in ("separate", "extract", "remove", "models", "doctor", "train"):
        assert command in cli().out
        assert "Usage:" in cli(command, "-h").out


@contextlib.contextmanager
def started(*words: object) -> "Iterator[subprocess.Popen[str]]":
    """``unweave WORDS...`` in a process of its own, gone at the end whatever happens."""
    # Where the tests themselves run in the background SIGINT is ignored, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "unweave", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_leaves_nothing_half_written(sound: Sound, tiny: Path, tmp_path: Path) -> None:
    long = sound("long.wav", seconds=1200)
    with started("separate", long, "rain", "dog", "-o", "out", "--model", tiny, *DEAF) as process:
        while not (tmp_path / "out" / "long").exists() and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "it was too quick to be interrupted"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_error(sound: Sound, tiny: Path) -> None:
    with started("separate", sound("a.wav"), "rain", "--model", tiny, *DEAF) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(300) == console.CLOSED_PIPE, said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_a_fault_of_ours_keeps_its_traceback(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.report(ZeroDivisionError("division by zero"), as_json=True) == 1
    out, err = capsys.readouterr()
    assert "ZeroDivisionError: division by zero" in err
    assert '"exit_code": 1' in out
