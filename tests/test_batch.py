"""Which files are meant, and where their tracks go."""

from pathlib import Path

import pytest

from unweave.batch import Job, Recording, find_recordings, plan, queries_of, tell_apart
from unweave.errors import AudioError, QueryError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.WAV, a.flac, notes.txt, .hidden.wav, sub/c.mp3, .git/d.wav, and two links."""
    place = tmp_path / "recordings"
    names = ("b.WAV", "a.flac", "notes.txt", ".hidden.wav", "sub/c.mp3", ".git/d.wav")
    for path in [*(place / name for name in names), tmp_path / "outside.wav"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (place / "out-link.wav").symlink_to(tmp_path / "outside.wav")
    (place / "loop").symlink_to(place)
    return place


def found(*inputs: Path, **options: object) -> list[str]:
    return [recording.path.name for recording in find_recordings(inputs, **options)]  # type: ignore[arg-type]


def places(*paths: str, under: dict[str, str] | None = None) -> dict[str, str]:
    recordings = [Recording(Path(path), Path((under or {}).get(path, ""))) for path in paths]
    return {str(job.source): job.out.as_posix() for job in plan(recordings, Path("out"))}


@pytest.mark.parametrize(
    ("words", "inputs", "queries"),
    [
        (["street.wav", "dog barking", "rain"], ["street.wav"], ["dog barking", "rain"]),
        (["dog barking", "rain"], ["dog barking"], ["rain"]),  # the first is an input whatever it is
        (["a.wav", "gone/b.txt", "c.Mp4", "rain"], ["a.wav", "gone/b.txt", "c.Mp4"], ["rain"]),
        (["a.wav", "", "  "], ["a.wav"], ["", "  "]),  # Path("") would be the current folder
        (["a.wav", "x" * 10_000], ["a.wav"], ["x" * 10_000]),  # too long for the file system to answer
        (["a.wav", "nul\0"], ["a.wav"], ["nul\0"]),
        (["a.wav", "犬の鳴き声"], ["a.wav"], ["犬の鳴き声"]),
    ],
)
def test_words_are_told_apart(words: list[str], inputs: list[str], queries: list[str]) -> None:
    assert tell_apart(words) == ([Path(path) for path in inputs], queries)


def test_a_word_that_exists_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rain").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tell_apart(["a.wav", "rain", "wind"]) == ([Path("a.wav"), Path("rain")], ["wind"])


def test_a_folder_is_searched_in_order(folder: Path) -> None:
    assert found(folder) == ["a.flac", "b.WAV"]
    assert found(folder, recursive=True) == ["a.flac", "b.WAV", "c.mp3"]
    assert find_recordings([folder], recursive=True)[-1].under == Path("sub")


def test_results_are_not_taken_for_recordings(folder: Path) -> None:
    assert found(folder, recursive=True, skip=folder / "sub") == ["a.flac", "b.WAV"]


def test_a_named_file_is_taken_once_and_whatever_its_name(folder: Path) -> None:
    assert found(folder / "notes.txt", folder, folder / "sub" / ".." / "a.flac") == [
        "notes.txt",
        "a.flac",
        "b.WAV",
    ]


def test_nothing_to_work_on_is_said_before_any_work(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"no file or folder .*rainn.*--query"):
        find_recordings([folder, tmp_path / "rainn"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no recordings"):
        find_recordings([tmp_path / "empty"])


def test_queries_are_checked() -> None:
    (query,) = queries_of([" dog "], "cat", ((1.0, 2.0),))
    assert (query.text, query.not_text, query.spans) == ("dog", "cat", ((1.0, 2.0),))
    assert queries_of([], "", ()) == []  # all that is heard
    for texts, negative in ([], "cat"), ([" "], ""), (["x" * 10_000], ""), (["dog", "rain"], "cat"):
        with pytest.raises(QueryError):
            queries_of(texts, negative, ())


def test_a_recording_alone_goes_where_it_is_named() -> None:
    assert places("a/x.wav", "a/y.mp3") == {"a/x.wav": "out/x", "a/y.mp3": "out/y"}
    assert plan([Recording(Path("x.wav"))], Path("o")) == [Job(Path("x.wav"), Path("o/x"))]


def test_sub_folders_are_kept() -> None:
    assert places("r/x.wav", "r/s/x.wav", under={"r/s/x.wav": "s"}) == {
        "r/x.wav": "out/x",
        "r/s/x.wav": "out/s/x",
    }


def test_same_names_are_told_apart_whatever_the_order() -> None:
    expected = {"x.wav": "out/x-wav", "x.mp3": "out/x-mp3"}
    assert places("x.wav", "x.mp3") == places("x.mp3", "x.wav") == expected

    expected = {"a/x.wav": "out/x", "b/x.wav": "out/x-2", "c/X.wav": "out/X-3"}
    assert places("a/x.wav", "b/x.wav", "c/X.wav") == places("c/X.wav", "b/x.wav", "a/x.wav") == expected


def test_no_two_recordings_ever_share_a_folder() -> None:
    awkward = ["a/x.wav", "b/x.wav", "b/x.mp3", "x.wav", "2/x.flac", "x-wav.mp3", "x-wav-2.wav", "X.wav"]
    under = {path: str(Path(path).parent) for path in awkward if path[0] == "2"}
    given = places(*awkward, under=under)
    assert len({folder.casefold() for folder in given.values()}) == len(awkward)
    assert places(*reversed(awkward), under=under) == given
