"""Many recordings in one go: which files are meant, and in which folder the tracks of each belong."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unweave.errors import AudioError, QueryError
from unweave.pipeline.naming import track_name
from unweave.types import Query

# What a folder is searched for; a file named outright is opened whatever it is called.
EXTENSIONS = frozenset(
    f".{extension}"
    for family in (
        "wav wave w64 rf64 aif aiff aifc au snd caf flac wv",
        "mp2 mp3 m4a m4b aac ac3 ogg oga opus wma amr mka",
        "mp4 m4v mov mkv webm avi mpg mpeg wmv 3gp",
    )
    for extension in family.split()
)


@dataclass(frozen=True)
class Recording:
    """A file to work on."""

    path: Path
    under: Path = Path()  # where it lies in the folder that was searched; decides where its tracks go


@dataclass(frozen=True)
class Job:
    """One recording and the folder for its tracks; no two jobs share a folder."""

    source: Path
    out: Path


def tell_apart(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split what was typed into inputs and queries, in the order typed.

    The first is always an input. Any other is one if it exists, or if it looks like a file: it has a
    path separator, or the extension of a recording.

    >>> tell_apart(["street.wav", "dog barking", "b/street.MP3", "rain"])
    ([PosixPath('street.wav'), PosixPath('b/street.MP3')], ['dog barking', 'rain'])
    """
    inputs, queries = [], []
    for position, word in enumerate(words):
        is_input = position == 0 or (word.strip() != "" and (looks_like_file(word) or _exists(Path(word))))
        if is_input:
            inputs.append(Path(word))
        else:
            queries.append(word)
    return inputs, queries


def looks_like_file(word: str) -> bool:
    """Whether a word is more likely a file than a sound: a path separator, or a recording's extension."""
    separators = {"/", os.sep, os.altsep or "/"}
    return any(separator in word for separator in separators) or Path(word).suffix.lower() in EXTENSIONS


def queries_of(
    texts: Sequence[str], not_text: str, spans: tuple[tuple[float, float], ...], examples: int = 0
) -> list[Query]:
    """The queries of one call that have words; none where all sounds are wanted.

    Args:
        texts: words.
        not_text: what the one sound must not be.
        spans: where the one sound is.
        examples: how many sounds are asked for by example besides.

    Raises:
        QueryError: one is empty or too long, or `not_text` or `spans`, which describe one sound in words,
            come with several, or with none.
    """
    if (len(texts) != 1 or examples) and (not_text or spans):
        raise QueryError(
            f"--not and --span describe one sound in words, {len(texts)} were given"
            f"{f' and {examples} by example' if examples else ''}; ask for that sound alone"
        )
    return [Query(text.strip(), not_text=not_text.strip(), spans=spans) for text in texts]


def stretch_of(text: str) -> tuple[Path, float, float | None]:
    """What ``FILE`` or ``FILE@START-END`` names: a file, and from when to when in seconds, None for its end.

    Raises:
        QueryError: the stretch is empty.

    >>> stretch_of("bark.wav@3.2-4.0")
    (PosixPath('bark.wav'), 3.2, 4.0)
    """
    match = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text, re.DOTALL)
    if not match or _exists(Path(text)):  # a file may have such a name
        return Path(text), 0.0, None
    start, end = float(match[2]), float(match[3])
    if start >= end:
        raise QueryError(f"--like wants FILE@START-END with START before END, in seconds, got {text!r}")
    return Path(match[1]), start, end


def is_foreign(text: str) -> bool:
    """Whether `text` has letters that are not Latin, which an English text encoder cannot make sense of.

    >>> is_foreign("crème brûlée, 20 dB"), is_foreign("犬の鳴き声")
    (False, True)
    """
    return any(letter.isalpha() and "LATIN" not in unicodedata.name(letter, "") for letter in text)


def find_recordings(
    inputs: Iterable[Path], recursive: bool = False, skip: Path | None = None
) -> list[Recording]:
    """The files meant by `inputs`, each once: files as named, folders searched for known extensions.

    Sorted within a folder. Hidden files and links that lead out of the folder are left alone, and so is
    `skip`, the folder of results: a second run must not take the first one's tracks for recordings.

    Raises:
        AudioError: an input does not exist, or a folder has no recordings.
    """
    found: dict[Path, Recording] = {}
    for path in inputs:
        if not _exists(path):
            raise AudioError(
                f"no file or folder {str(path)!r}; recordings come first, and a sound that looks like a file "
                f"is given with --query"
            )
        recordings = list(_walk(path, recursive, skip)) if path.is_dir() else [Recording(path)]
        if not recordings:
            where = "it" if recursive else "it (sub-folders are searched with --recursive)"
            raise AudioError(
                f"the folder {str(path)!r} has no recordings in {where}; name the files themselves"
            )
        for recording in recordings:
            found.setdefault(recording.path.resolve(), recording)
    return list(found.values())


def plan(recordings: Sequence[Recording], out: Path) -> list[Job]:
    """Give every recording its own folder in `out`, named after it.

    Files from sub-folders keep their sub-folder. Where two would still share a folder, they are told apart
    by extension (``x.wav`` and ``x.mp3`` become ``x-wav`` and ``x-mp3``), then by a number in the order of
    their paths, so that the same files get the same folders whatever the order they were named in.
    """
    groups: dict[str, list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda recording: str(recording.path)):
        groups[_key(recording.under / track_name(recording.path))].append(recording)

    folders: dict[Path, Path] = {}
    taken: set[str] = set()
    for group in sorted(groups.values(), key=len):  # who has a name to himself keeps it
        mixed = len({recording.path.suffix.lower() for recording in group}) > 1
        for recording in group:
            name = track_name(recording.path) + (f"-{recording.path.suffix[1:].lower()}" if mixed else "")
            folder, number = recording.under / name, 1
            while _key(folder) in taken:
                number += 1
                folder = recording.under / f"{name}-{number}"
            taken.add(_key(folder))
            folders[recording.path] = out / folder
    return [Job(recording.path, folders[recording.path]) for recording in recordings]


def _walk(folder: Path, recursive: bool, skip: Path | None) -> Iterator[Recording]:
    def refuse(error: OSError) -> None:
        raise AudioError(f"cannot list the folder {error.filename!r}: {error.strerror}") from error

    root, left_out = folder.resolve(), skip.resolve() if skip else None
    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and (here / name).resolve() != left_out
        )
        for name in sorted(files):
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            yield Recording(path, here.relative_to(folder))


def _key(folder: Path) -> str:
    # Two names that differ in case only are one folder on macOS and Windows.
    return str(folder).casefold()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a file name, or a character no file name can have
        return False
