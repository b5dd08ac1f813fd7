"""`unweave listen` as a user meets it: what is printed, drawn and returned, also when things go wrong."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from captions import save_whisper
from unweave.errors import OutputError, UsageError
from unweave.hearing import LONGEST_NAME, names_of
from unweave.listen.plot import draw, verify
from unweave.listen.spectrogram import BANDS, COLUMNS, RANGE, Spectrogram
from unweave.listen.timeline import clock, lines
from unweave.types import Heard

Cli = Callable[..., Any]  # conftest.Ran
Sound = Callable[..., Path]
DATA = Path(__file__).parent / "data"
NAMES = "dog barking, rain, jackhammer, violin"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has the current folder to itself, and its environment back afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))


@pytest.fixture
def listen(cli: Cli, ears: Path) -> Cli:
    return lambda *words: cli("listen", "--listener", ears, *words)


def heard_by(ears: Path, file: Path, names: str, threshold: float) -> list[Heard]:
    """The same without the command line."""
    from unweave.audio import read
    from unweave.listen import tagger

    ours, audio = tagger.load(ears), read(file)
    impression = ours.follow([audio.samples], audio.sample_rate)
    return ours.heard(impression, [name.strip() for name in names.split(",")], threshold)


def test_json_says_what_the_library_hears(listen: Cli, ears: Path) -> None:
    file = DATA / "street.flac"
    ran = listen(file, "--labels", NAMES, "--threshold", 0, "--json", "-q")
    assert ran.code == 0
    (told,) = ran.documents
    assert ran.err == ""
    assert list(told) == ["file", "status", "seconds", "heard", "caption"]
    assert (told["file"], told["status"], told["caption"]) == (str(file), "done", None)
    assert told["seconds"] == soundfile.info(file).duration
    expected = heard_by(ears, file, NAMES, 0)
    assert len(expected) > 1
    assert [(one["text"], one["start"], one["end"]) for one in told["heard"]] == [
        (one.text, round(one.start, 3), round(one.end, 3)) for one in expected
    ]
    assert [one["score"] for one in told["heard"]] == pytest.approx([one.score for one in expected], abs=1e-4)


def test_people_get_a_row_per_sound_and_a_sentence(listen: Cli, ears: Path) -> None:
    file = DATA / "street.flac"
    ran = listen(file, "--labels", NAMES, "--threshold", 0, "--caption")
    expected = heard_by(ears, file, NAMES, 0)
    names = list(dict.fromkeys(one.text for one in expected))
    head, *rows, _, sentence = ran.out.splitlines()
    assert head == f"{file}: {soundfile.info(file).duration:.1f} s, {len(names)} sounds"
    assert [row.split("  ")[0].strip() for row in rows] == names
    for row, name in zip(rows, names, strict=True):
        for one in expected:
            assert (f"{clock(one.start)}-{clock(one.end)}" in row) >= (one.text == name)
    from unweave.listen.captioner import caption

    assert sentence == caption(expected) != ""
    assert "device: cpu (" in ran.err


def likely(ears: Path, file: Path, names: Sequence[str], count: int) -> float:
    """The probability that `count` of `names` reach; of a network that has learned nothing, a small one."""
    from unweave.audio import read
    from unweave.listen import tagger

    ours, audio = tagger.load(ears), read(file)
    present = ours.present(ours.follow([audio.samples], audio.sample_rate), names)
    return float(present.sort(descending=True).values[count - 1])


def test_the_whole_vocabulary_is_listened_for_unless_told_otherwise(listen: Cli, ears: Path) -> None:
    from unweave.listen.tagger import vocabulary

    file = DATA / "dog-barking.flac"  # one piece of less than 4 s
    least = likely(ears, file, vocabulary(), 20)
    few, none = (listen(file, "--threshold", x, "--json", "-q") for x in (least, 1))
    assert none.documents[0]["heard"] == []
    heard = few.documents[0]["heard"]
    assert 1 <= len({one["text"] for one in heard}) <= 20
    assert all(one["score"] >= least - 1e-4 and one["text"] in vocabulary() for one in heard)


def test_silence_is_said_and_is_no_error(listen: Cli) -> None:
    soundfile.write("hush.wav", np.zeros((16_000, 2)), 16_000)
    ran = listen("hush.wav", "--caption", "--threshold", 0)
    assert (ran.code, ran.out) == (0, "hush.wav: 1.0 s, nothing was heard, it is silent\n")
    ran = listen("hush.wav", "--caption", "--json", "-q", "--threshold", 0)
    assert ran.documents == [
        {"file": "hush.wav", "status": "done", "seconds": 1.0, "heard": [], "caption": ""}
    ]


def test_a_tenth_of_a_second_is_enough(listen: Cli) -> None:
    for seconds in (0.1, 1 / 16_000):
        soundfile.write("a.wav", np.full(round(seconds * 16_000), 0.5), 16_000)
        (told,) = listen("a.wav", "--labels", "rain", "--threshold", 0, "--json", "-q").documents
        assert told["seconds"] == pytest.approx(seconds, abs=1e-3)
        assert [(one["text"], one["start"]) for one in told["heard"]] == [("rain", 0)]
        assert told["heard"][0]["end"] <= told["seconds"] + 1e-3


def test_a_file_that_fails_does_not_stop_the_others(listen: Cli, sound: Sound, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_text("this is text")
    files = (sound("a.wav"), "bad.mp3", "gone.wav", tmp_path, sound("b.wav"))
    ran = listen(*files, "--json", "--labels", "rain")
    assert ran.code == 3
    assert [line["status"] for line in ran.documents] == ["done", "failed", "failed", "failed", "done"]
    assert [line["error"]["exit_code"] for line in ran.documents[1:4]] == [4, 4, 4]
    assert "2 done, 3 failed" in ran.err
    alone = listen("gone.wav", "--labels", "rain")
    assert alone.code == 4
    assert "there is no file gone.wav" in alone.err


def test_names_are_read_with_commas_or_by_lines(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffwind\r\n\r\n  Rain \tin a  gutter\r\nDOG\r\n鳥".encode())
    assert names_of("dog, rain ,, Dog,dog", None) == ("dog", "rain")
    assert names_of("dog", names) == ("dog", "wind", "Rain in a gutter", "鳥")
    assert names_of(None, None) is None
    assert names_of("x" * LONGEST_NAME, None) == ("x" * LONGEST_NAME,)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--labels", ""], "--labels has no name in it; wanted are names with commas"),
        (["--labels", " , "], "--labels has no name in it"),
        (["--labels", "rain,\x1b[31mred"], r"--labels: a name with the control character '\x1b'"),
        (["--labels", "r" * 201], "has 201 characters, at most 200 are read; name one sound in a few words"),
        (["--vocabulary", "empty.txt"], "empty.txt is empty; leave it out to listen for every sound"),
        (["--vocabulary", "blank.txt"], "blank.txt is empty"),
        (["--vocabulary", "gone.txt"], "gone.txt cannot be read: No such file or directory"),
        (["--vocabulary", "."], "cannot be read: Is a directory"),
        (["--vocabulary", "latin.txt"], "latin.txt is not text in UTF-8, save it as such"),
        (["--vocabulary", "bell.txt"], r"bell.txt, line 2: a name with the control character '\x07'"),
        (["--threshold", "1.5"], "--threshold wants a number from 0 to 1, got 1.5"),
        (["--threshold", "nan"], "--threshold wants a number from 0 to 1, got nan"),
        (["--captioner", "wisper:x"], "no captioner named 'wisper'. Did you mean 'whisper'?"),
        (["--plot", "events.txt"], "a picture is written as .png, .svg, .pdf, got 'events.txt'"),
    ],
)
def test_what_makes_no_sense_is_refused(listen: Cli, sound: Sound, flags: list[str], said: str) -> None:
    Path("empty.txt").touch()
    Path("blank.txt").write_text("\n \n\t\n")
    Path("latin.txt").write_bytes("Geräusch".encode("latin-1"))
    Path("bell.txt").write_text("rain\nbe\x07ll\n")
    ran = listen(sound("a.wav"), *flags)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_vocabulary_of_many_names(listen: Cli, sound: Sound, ears: Path, count: int) -> None:
    kinds = ["bell", "dog", "engine", "door", "bird", "drum", "voice", "wave", "clock", "rain"]
    made = [f"{kind} {number}" for number in range(count // 10) for kind in kinds]
    Path("names.txt").write_text("\n".join(made), encoding="utf-8")
    assert len(names_of(None, Path("names.txt")) or ()) == count
    file = sound("a.wav", 1.0)
    least = likely(ears, file, made, 20)
    ran = listen(file, "--vocabulary", "names.txt", "--threshold", least, "--json", "-q")
    assert ran.code == 0
    heard = ran.documents[0]["heard"]
    assert heard
    assert {one["text"] for one in heard} <= set(made)


def test_a_captioner_of_ones_own(listen: Cli, tmp_path: Path) -> None:
    whisper_folder = save_whisper(tmp_path / "whisper")
    file = DATA / "street.flac"
    ran = listen(
        file, "--labels", "rain", "--captioner", f"whisper:{whisper_folder}", "--json", "-q", "--offline"
    )
    (told,) = ran.documents
    assert told["sentences"][0]["start"] == 0
    assert told["sentences"][-1]["end"] == pytest.approx(told["seconds"])
    assert told["sentences"][0]["text"][1:] in told["caption"]
    people = listen(file, "--labels", "rain", "--captioner", f"whisper:{whisper_folder}")
    assert f"0:00.0-{clock(told['sentences'][0]['end'])}  {told['sentences'][0]['text']}" in people.out


# --- the timeline ----------------------------------------------------------------------------------------


def test_a_row_is_dark_where_the_sound_is() -> None:
    heard = [Heard("dog", 0.9, 2, 4), Heard("dog", 0.6, 9.99, 10), Heard("rain", 0.3, 0, 10)]
    dog, rain, scale = lines(heard, 10, ascii=True)
    assert dog.split("|")[1] == "        ########                       ="  # 40 cells, 4 a second
    assert dog.startswith("dog   0.90  |")
    assert dog.endswith("|  0:02.0-0:04.0  0:10.0-0:10.0")
    assert rain.split("|")[1] == "-" * 40
    assert scale.index("0:00") == dog.index("|") + 1
    assert scale.endswith("0:10.0")
    assert len(scale) == dog.rindex("|")
    assert lines([], 10) == []


def test_rows_fit_the_terminal_in_any_script() -> None:
    from rich.cells import cell_len

    heard = [Heard("鳥の鳴き声", 0.9, i * 10, i * 10 + 1) for i in range(30)] + [Heard("b" * 99, 0.8, 0, 300)]
    for width in (60, 80, 132):
        made = lines(heard, 300, width)
        assert max(map(cell_len, made)) < width
        edges = {cell_len(row[: row.rindex("│")]) for row in made[:2]}
        assert len(edges) == 1  # aligned, although letters have different widths
        assert made[1].startswith("bbb")
        assert "b...  0.80" in made[1]
    assert "+" in lines(heard, 300, 132)[0]  # how many more times there are
    assert lines(heard, 300)[0].count("-") == 30  # in a pipe, all of them


# --- the picture -----------------------------------------------------------------------------------------


def test_the_spectrogram_shows_tones_where_and_when_they_are() -> None:
    rate = 16_000
    time = torch.arange(4 * rate) / rate
    low = torch.sin(2 * torch.pi * 200 * time) * (time < 2)
    high = 0.1 * torch.sin(2 * torch.pi * 4000 * time) * (time >= 2)
    made = []
    for size in (4 * rate, 777):
        spectrogram = Spectrogram(rate)
        passed = list(spectrogram.watch((low + high)[None].split(size, dim=1)))
        assert torch.equal(torch.cat(passed, dim=1)[0], low + high)
        assert spectrogram.seconds == pytest.approx(4)
        made.append(spectrogram.picture())
    assert torch.allclose(made[0], made[1], atol=1e-3)  # whatever the blocks
    picture, edges = made[0], spectrogram.edges
    columns = picture.shape[1]
    for start, end, hz in ((0.1, 0.45, 200), (0.55, 0.9, 4000)):
        column = picture[:, int(start * columns) : int(end * columns)]
        row = int(column.mean(1).argmax())
        assert edges[row] * 0.94 <= hz <= edges[row + 1] * 1.06
        assert float(column[row].min()) > float(column.quantile(0.9)) + 20


def test_the_spectrogram_of_hours_is_no_larger() -> None:
    spectrogram = Spectrogram(8000)
    tone = torch.sin(torch.arange(80_000) * (2 * torch.pi * 440 / 8000))[None]
    for _ in spectrogram.watch(tone * (0.1 if part < 60 else 1) for part in range(120)):  # 20 minutes
        pass
    picture = spectrogram.picture()
    assert picture.shape[0] == BANDS
    assert COLUMNS / 2 < picture.shape[1] <= COLUMNS + 1
    row = picture.mean(1).argmax()
    half = picture.shape[1] // 2
    assert picture[row, 10 : half - 10].numpy() == pytest.approx(-20, abs=0.5)
    assert picture[row, half + 10 : -10].numpy() == pytest.approx(0, abs=0.5)


def test_silence_has_a_black_spectrogram() -> None:
    for length in (0, 10, 5000):
        spectrogram = Spectrogram(44_100)
        list(spectrogram.watch([torch.zeros(2, length)]))
        picture = spectrogram.picture()
        assert picture.shape[1] >= 1
        assert bool((picture == -RANGE).all())


def blue(path: Path) -> np.ndarray:
    """(height, width) bool: where a picture has the first colour of the lanes, wholly sure."""
    from matplotlib.image import imread

    return np.abs(imread(path)[..., :3] * 255 - [0x44, 0x77, 0xAA]).max(-1) <= 3


def test_the_picture_has_a_bar_where_a_sound_is(tmp_path: Path) -> None:
    spectrogram = Spectrogram(8000)
    list(spectrogram.watch([torch.randn(1, 80_000, generator=torch.Generator().manual_seed(0))]))
    columns = []
    for start, end in ((0.0, 10.0), (2.5, 5.0)):
        draw(tmp_path / "a.png", spectrogram, [Heard("rain", 1.0, start, end)], "a", overwrite=True)
        ys, xs = np.nonzero(blue(tmp_path / "a.png"))
        assert (ys > 350).mean() > 0.98  # below the spectrogram
        columns.append((xs.min(), xs.max() + 1))
    (left, right), (first, last) = columns
    assert (first - left) / (right - left) == pytest.approx(0.25, abs=0.01)
    assert (last - left) / (right - left) == pytest.approx(0.5, abs=0.01)


def test_odd_names_are_drawn_and_nothing_global_is_touched(tmp_path: Path) -> None:
    import sys

    import matplotlib

    before, windows = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    spectrogram = Spectrogram(44_100)
    list(spectrogram.watch([torch.randn(2, 44_100, generator=torch.Generator().manual_seed(0))]))
    heard = [Heard(name, 0.5, 0, 1) for name in ("$x^2$ & $", "鳥", "مطر", "<b>&amp;", "n" * 200)]
    heard += [Heard(f"name {number}", 0.4, 0, 1) for number in range(40)]
    for ending in ("png", "svg", "pdf"):
        draw(tmp_path / f"a.{ending}", spectrogram, heard, "$ 鳥 & <")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "16 of 45 names" in text
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == windows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "a.svg"]


def test_pictures_replace_nothing_unasked(listen: Cli, sound: Sound, tmp_path: Path) -> None:
    flags = ("--labels", NAMES, "--threshold", 0, "--plot", "events.png")
    ran = listen(sound("a.wav"), *flags)
    assert ran.code == 0
    assert "a.wav: drawn to events.png" in ran.err
    first = Path("events.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    again = listen(sound("b.wav", 0.2), *flags)
    assert (again.code, Path("events.png").read_bytes()) == (7, first)
    assert "events.png exists; choose another name, or replace it with --overwrite" in again.err
    assert listen(sound("b.wav", 0.2), *flags, "--overwrite").code == 0
    assert Path("events.png").read_bytes() != first
    two = listen(sound("a.wav"), sound("b.wav"), *flags, "--overwrite")
    assert two.code == 2
    assert "--plot draws one recording, 2 were given" in two.err
    with pytest.raises(OutputError, match="there is no folder"):
        verify(tmp_path / "new" / "a.png", False)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'unweave\[plot\]'"):
        verify(Path("a.png"), False)


def test_nothing_heavy_is_imported_for_help() -> None:
    import subprocess
    import sys

    code = (
        "from unweave.cli import main\ntry: main(['listen', '--help'])\nexcept SystemExit: pass\n"
        "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "transformers", "matplotlib", "rich", "soundfile"}
    assert "--labels" in done.stdout
