"""The file of a frozen benchmark: one header line, one line an item, JSON, strictly checked.

Lists come from users as well, so nothing in a file is believed: unknown and doubled keys, paths out of the
data folder, numbers that are not finite or out of range, and pieces that stick out of their mixture are
refused, with the line they stand in.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from unweave.errors import OutputError, UsageError
from unweave.types import LONGEST_QUERY

VERSION = 1
LARGEST_FILE = 64 * 2**20  # bytes; the lists that come along have 0.3 MB
LONGEST = 3600  # seconds of one mixture: each query's answer is held in memory whole
MOST_QUERIES = 64
MOST_CHANNELS = 8
MOST_SAMPLES = 2**30  # of a mixture and all its references together; 4 GB in memory
LOUDEST = 1000.0  # gain of a piece


@dataclass(frozen=True)
class Piece:
    """A stretch of a clip, and where and how loud it sounds. Samples are at the benchmark's rate."""

    file: str  # relative to the data folder
    start: int  # first sample of the clip
    length: int  # samples
    at: int  # sample of the mixture
    gain: float  # linear; levelling included, so that rendering is one multiplication


@dataclass(frozen=True)
class Ask:
    """One query of an item, and what answers it."""

    text: str  # the words
    sources: tuple[int, ...]  # sum of these; () asks for what is not there
    label: str  # the manifest's name of it; the text may be a paraphrase
    example: Piece | None = None  # an example of the sound, beside the words


@dataclass(frozen=True)
class Item:
    """One mixture: the sum of its pieces."""

    id: str
    length: int  # samples
    pieces: tuple[Piece, ...]
    of: tuple[int, ...]  # source that each piece belongs to, numbered from 0
    queries: tuple[Ask, ...]
    snr_db: float | None  # power of the first query's source over that of everything else; None: not stated
    low_pass_hz: float = 0.0  # everything above is cut away; 0 = nothing
    channels: int = 1


@dataclass(frozen=True)
class Benchmark:
    """A frozen list of mixtures; the clips stay outside."""

    name: str
    sample_rate: int  # Hz
    seconds: float  # of an item
    seed: int
    command: str  # that built it
    files: Mapping[str, str]  # path relative to the data folder -> sha256 of the content
    sha256: str  # of the list's own bytes
    items: tuple[Item, ...]
    about: str = ""  # one line: what it asks


def read(path: Path) -> Benchmark:
    """The benchmark in a file.

    Raises:
        UsageError: no such file, or anything in it that the format does not allow, with its line.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path} is larger than {LARGEST_FILE // 2**20} MB; a benchmark lists no audio")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the benchmark {path}: {error.strerror}") from None
    return decode(content, str(path))


def write(benchmark: Benchmark, path: Path, overwrite: bool = False) -> None:
    """Write a benchmark, whole or not at all.

    Raises:
        OutputError: the file exists already, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name, or ask for it to be replaced")
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(encode(benchmark))
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def encode(benchmark: Benchmark) -> bytes:
    """The bytes of a benchmark's file. What has its default is left out."""
    header: dict[str, Any] = {
        "name": benchmark.name,
        "version": VERSION,
        "about": benchmark.about,
        "command": benchmark.command,
        "seed": benchmark.seed,
        "sample_rate": benchmark.sample_rate,
        "seconds": benchmark.seconds,
        "items": len(benchmark.items),
        "files": dict(benchmark.files),
    }
    lines = [header, *map(_item_values, benchmark.items)]
    text = [json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for line in lines]
    return ("\n".join(text) + "\n").encode()


def sealed(benchmark: Benchmark) -> Benchmark:
    """`benchmark` with the hash of its file, once checked as if it had been read from there.

    Raises:
        UsageError: as `read`.
    """
    content = encode(benchmark)
    checked = decode(content, benchmark.name)
    return replace(benchmark, sha256=checked.sha256)


def _item_values(item: Item) -> dict[str, Any]:
    values: dict[str, Any] = {"id": item.id, "length": item.length, "snr_db": item.snr_db}
    if item.low_pass_hz:
        values["low_pass_hz"] = item.low_pass_hz
    if item.channels != 1:
        values["channels"] = item.channels
    values["pieces"] = [_piece_values(piece) for piece in item.pieces]
    values["of"] = list(item.of)
    values["queries"] = [_ask_values(ask) for ask in item.queries]
    return values


def _ask_values(ask: Ask) -> dict[str, Any]:
    values: dict[str, Any] = {"text": ask.text, "sources": list(ask.sources)}
    if ask.label != ask.text:
        values["label"] = ask.label
    if ask.example is not None:
        values["example"] = _piece_values(ask.example)
    return values


def _piece_values(piece: Piece) -> list[str | int | float]:
    return [piece.file, piece.start, piece.length, piece.at, piece.gain]


def decode(content: bytes, where: str) -> Benchmark:
    """The benchmark in the bytes of a file; `where` is named in errors.

    Raises:
        UsageError: as `read`.
    """
    lines = content.removesuffix(b"\n").split(b"\n")
    header = _Fields(_json(lines[0], where, 1), f"{where}, line 1")
    header.only("name", "version", "about", "command", "seed", "sample_rate", "seconds", "items", "files")
    header.whole("version", VERSION, VERSION)
    rate = header.whole("sample_rate", 1000, 192_000)
    header.whole("items", len(lines) - 1, len(lines) - 1)
    benchmark = Benchmark(
        name=header.match("name", r"[a-z0-9][a-z0-9-]{0,63}", "lower-case letters, digits and dashes"),
        sample_rate=rate,
        seconds=header.number("seconds", 0, LONGEST),
        seed=header.whole("seed", -(2**63), 2**63),
        command=header.text("command"),
        files=_files(header),
        sha256=hashlib.sha256(content).hexdigest(),
        items=(),
        about=header.text("about"),
    )
    items = []
    for number, line in enumerate(lines[1:], 2):
        fields = _Fields(_json(line, where, number), f"{where}, line {number}")
        items.append(_item(fields, benchmark))
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(f"{where} has two items called {item.id!r}; results are kept by this name")
        seen.add(item.id)
    return replace(benchmark, items=tuple(items))


class _Fields:
    """A JSON object of which only what fits is handed out."""

    def __init__(self, values: object, where: str) -> None:
        self.where = where
        if not isinstance(values, dict):
            raise UsageError(f"{where} wants a JSON object, got {str(values)[:60]!r}")
        self.values: dict[str, Any] = values

    def only(self, *known: str) -> None:
        for name in self.values:
            if name not in known:
                raise UsageError(f"{self.where} has the unknown key {name[:60]!r}; known: {', '.join(known)}")

    def wrong(self, name: str, wanted: str) -> NoReturn:
        given = repr(self.values[name])[:80] if name in self.values else "nothing"
        raise UsageError(f"{self.where}: {name} wants {wanted}, got {given}")

    def whole(self, name: str, low: int, high: int) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(name, f"the whole number {low}" if low == high else f"a whole number {low}..{high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """Above `low`, at most `high`."""
        value = self.values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low < value <= high:
            self.wrong(name, f"a number above {low:g}, at most {high:g}")
        return float(value)

    def text(self, name: str, longest: int = LONGEST_QUERY) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
            self.wrong(name, f"1 to {longest} printable characters")
        return value

    def match(self, name: str, pattern: str, wanted: str) -> str:
        value = self.text(name)
        if not re.fullmatch(pattern, value):
            self.wrong(name, wanted)
        return value

    def rows(self, name: str, most: int) -> list[Any]:
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) > most:
            self.wrong(name, f"a list of at most {most}")
        return value

    def indices(self, name: str, most: int, below: int) -> tuple[int, ...]:
        value = self.rows(name, most)
        if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < below for one in value):
            self.wrong(name, f"whole numbers from 0, below {below}")
        return tuple(value)


def _json(line: bytes, where: str, number: int) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("a key stands twice")
        return values

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number of JSON")

    try:
        return json.loads(line.decode(), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}, line {number} is not JSON: {error}") from None


def _files(header: _Fields) -> dict[str, str]:
    files = header.values.get("files")
    if not isinstance(files, dict) or not files:
        header.wrong("files", "an object of paths and their sha256")
    for path, sha256 in files.items():
        parts = PurePosixPath(path).parts
        inside = parts and "/".join(parts) == path and not path.startswith("/") and ".." not in parts
        if not inside or not path.isprintable() or "\\" in path or ":" in path:
            raise UsageError(
                f"{header.where} names the file {path!r}; clips have to lie below the data folder"
            )
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UsageError(
                f"{header.where}: {path} wants a sha256 of 64 hexadecimal digits, got {sha256!r}"
            )
    return files


def _item(fields: _Fields, benchmark: Benchmark) -> Item:
    fields.only("id", "length", "snr_db", "low_pass_hz", "channels", "pieces", "of", "queries")
    rate, low_pass_hz = benchmark.sample_rate, 0.0
    length = fields.whole("length", 1, LONGEST * rate)
    if "low_pass_hz" in fields.values:
        low_pass_hz = fields.number("low_pass_hz", 0, rate / 2)
    pieces = tuple(_piece(row, fields, benchmark.files, length) for row in fields.rows("pieces", 100_000))
    of = fields.indices("of", len(pieces), max(1, len(pieces)))
    sources = len(set(of))
    if len(of) != len(pieces) or not pieces or set(of) != set(range(sources)):
        fields.wrong("of", "one source for each piece, numbered from 0 without gaps")
    asked = fields.rows("queries", MOST_QUERIES)
    if not asked:
        fields.wrong("queries", f"1 to {MOST_QUERIES} queries")
    item = Item(
        id=fields.match("id", r"[A-Za-z0-9][A-Za-z0-9_/-]{0,199}", "letters, digits, '-', '_' and '/'"),
        length=length,
        pieces=pieces,
        of=of,
        queries=tuple(_ask(_Fields(ask, f"{fields.where}, a query"), sources, benchmark) for ask in asked),
        snr_db=None if fields.values.get("snr_db") is None else fields.number("snr_db", -300, 300),
        low_pass_hz=low_pass_hz,
        channels=fields.whole("channels", 1, MOST_CHANNELS) if "channels" in fields.values else 1,
    )
    if length * item.channels * (len(asked) + 1) > MOST_SAMPLES:
        fields.wrong("length", f"at most {MOST_SAMPLES} samples of mixture and references together")
    return item


def _ask(fields: _Fields, sources: int, benchmark: Benchmark) -> Ask:
    fields.only("text", "sources", "label", "example")
    text = fields.text("text")
    asked = fields.indices("sources", sources, sources)
    if len(set(asked)) < len(asked):
        fields.wrong("sources", "each source once")
    example = None
    if "example" in fields.values:
        row = fields.values["example"]
        example = _piece(row, fields, benchmark.files, LONGEST * benchmark.sample_rate)
        if example.at:
            fields.wrong("example", "0 for the place in the mixture, of which an example is no part")
    label = fields.text("label") if "label" in fields.values else text
    return Ask(text, asked, label, example)


def _piece(row: object, fields: _Fields, files: Mapping[str, str], length: int) -> Piece:
    """`length`: samples of the mixture that the piece has to lie in."""
    if not isinstance(row, list) or len(row) != 5:
        raise UsageError(
            f"{fields.where}: a piece wants [file, start, length, at, gain], got {str(row)[:80]!r}"
        )
    values = _Fields(
        dict(zip(("file", "start", "length", "at", "gain"), row, strict=True)), f"{fields.where}, a piece"
    )
    file = values.text("file")
    if file not in files:
        values.wrong("file", "a file that the header lists")
    at = values.whole("at", 0, length - 1)
    gain = values.number("gain", -LOUDEST, LOUDEST)  # below 0: what is left of a mixture without its target
    if not gain:
        values.wrong("gain", "a number other than 0")
    return Piece(
        file=file,
        start=values.whole("start", 0, 2**40),
        length=values.whole("length", 1, length - at),
        at=at,
        gain=gain,
    )
