"""Reading what corpora publish: tables, JSON and folders of recordings; faults are named by their line."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from unweave.audio import probe, read
from unweave.data.corpora.protocol import Found, Mix, Take
from unweave.errors import AudioError, UsageError

SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".mkv", ".webm", ".mov"}
)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    where: str  # file and line, for errors
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def number(self, column: str) -> float:
        """A finite number.

        Raises:
            UsageError: it is none.
        """
        try:
            value = float(self[column])
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise UsageError(f"{self.where}: {column} wants a number, got {self[column]!r}; restore the file")
        return value

    def whole(self, column: str) -> int:
        """A whole number from 0.

        Raises:
            UsageError: it is none.
        """
        value = self.number(column)
        if value != int(value) or value < 0:
            raise UsageError(f"{self.where}: {column} wants a whole number from 0, got {self[column]!r}")
        return int(value)


def table(
    path: Path,
    *columns: str,
    header: bool = True,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
    comments: bool = False,
) -> Iterator[Row]:
    """The rows of a table of delimited text; empty lines are passed over.

    Args:
        path: the file.
        columns: that are wanted; others are kept too.
        header: whether the first line names the columns; else `columns` are all there are, in this order.
        delimiter: one character.
        encoding: of the file.
        comments: lines that begin with "#" are passed over, and so is a space after a delimiter (AudioSet).

    Raises:
        UsageError: no such file, a wanted column lacks, or a line has fewer fields than there are columns.
    """
    try:
        with path.open(newline="", encoding=encoding) as lines:
            reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=comments)
            names: Sequence[str] = () if header else columns
            for fields in reader:
                if not fields or (comments and fields[0].startswith("#")):
                    continue
                if not names:
                    names = fields
                    _refuse_lack(path, names, columns)
                    continue
                where = f"{path}, line {reader.line_num}"
                if len(fields) < len(names):
                    raise UsageError(
                        f"{where} has {len(fields)} fields, wanted are {', '.join(names)}; restore the file"
                    )
                yield Row(where, dict(zip(names, fields, strict=False)))
            _refuse_lack(path, names, columns)
    except FileNotFoundError:
        raise UsageError(f"no {path}; the data folder has to be what this corpus unpacks to") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not the text that was published: {error}; get the file again") from None


def _refuse_lack(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            given = ", ".join(names) or "none"
            raise UsageError(f"{path}, line 1 lacks the column {column!r}; it has {given}; restore the file")


def document(path: Path, optional: bool = False) -> dict[str, Any]:
    """The object in a JSON file; an empty one where an optional file is not there.

    Raises:
        UsageError: no such file, or no JSON object in it.
    """
    if optional and not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no {path}; the data folder has to be what this corpus unpacks to") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}; get the file again") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} wants a JSON object, got {type(found).__name__}; get the file again")
    return found


def recordings(root: Path, folder: str = ".") -> dict[str, str]:
    """Every sound file below root/folder: name without suffix -> path relative to `root`.

    For corpora that publish names of films and no sound: everybody keeps those in folders of his own.
    """
    found: dict[str, str] = {}
    for path in sorted((root / folder).rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, path.relative_to(root).as_posix())
    return found


def plain(name: str) -> str:
    """A published class name in plain words.

    >>> plain("Motor_vehicle_(road)")
    'motor vehicle (road)'
    """
    return name.replace("_", " ").strip().lower()


def words(caption: str) -> frozenset[str]:
    """The words of four letters or more, which captions of different sounds do not share.

    >>> sorted(words("A dog barks, then rain."))
    ['barks', 'rain', 'then']
    """
    return frozenset(re.findall(r"[a-z]{4,}", caption.lower()))


def rarest(classes: Iterable[Sequence[str]]) -> list[str]:
    """Of every clip's classes, the one that fewest clips have: a class is never rarer than those it contains.

    >>> rarest([["music", "guitar"], ["music"], ["music", "guitar"]])
    ['guitar', 'music', 'guitar']
    """
    every = list(classes)
    count = Counter(name for one in every for name in one)
    return [min(one, key=lambda name: count[name]) for one in every]


class Gather:
    """The takes of a corpus as its metadata name them, and what of it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clips: list[Take] = []
        self._seconds: dict[str, float | None] = {}  # by file; None: missing or unreadable
        self._missing: dict[str, None] = {}  # in order, each once
        self._unreadable: list[str] = []

    def add(self, take: Take, where: str) -> Take | None:
        """Keep a take if its file is there.

        Args:
            take: its file as the metadata name it; its length is not known yet.
            where: what names it, for errors.

        Returns:
            The take with its length, or None.

        Raises:
            UsageError: the file would lie outside of the corpus's folder.
        """
        known = self.measured(take, where)
        if known is not None:
            self.clips.append(known)
        return known

    def measured(self, take: Take, where: str) -> Take | None:
        """As `add`, without keeping it."""
        parts = PurePosixPath(take.file).parts
        if take.file.startswith("/") or ".." in parts:
            raise UsageError(f"{where} names the file {take.file!r}; files have to lie below {self.root}")
        if take.file not in self._seconds:
            self._seconds[take.file] = self._measure(take.file)
        seconds = self._seconds[take.file]
        return None if seconds is None else replace(take, seconds=seconds)

    def lacks(self, file: str) -> None:
        """Count a file that the metadata name and no name in the folder fits."""
        self._missing[file] = None

    def found(self, mixes: Iterable[Mix] = ()) -> Found:
        """Everything gathered."""
        return Found(tuple(self.clips), tuple(self._missing), tuple(self._unreadable), tuple(mixes))

    def _measure(self, file: str) -> float | None:
        path = self.root / file
        if not path.is_file():
            self.lacks(file)
            return None
        try:
            if ":" in file or "\\" in file or not file.isprintable():
                raise AudioError(f"{path} has a name that no list of mixtures may hold")
            seconds = probe(path).duration
            return read(path).duration if seconds is None else seconds
        except AudioError:
            self._unreadable.append(file)
            return None
