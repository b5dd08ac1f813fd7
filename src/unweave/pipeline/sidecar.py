"""`separation.json`: what was asked, what was used, what came out, next to the stems.

The dataclasses are the schema. Reading is strict, and the JSON has no NaN or Infinity: what cannot be
said as a number (the level of silence) is null.
"""

import dataclasses
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from unweave.config import from_dict
from unweave.errors import OutputError, UsageError
from unweave.types import Query

SCHEMA = 2
NAME = "separation.json"

Kind = Literal["text", "example", "residual"]


@dataclass(frozen=True)
class Asked:
    """A query as it was asked, without the example's samples; all empty for the residual."""

    text: str = ""
    sounds_like: str = ""
    not_text: str = ""
    spans: tuple[tuple[float, float], ...] = ()  # seconds; () = anywhere
    keep: bool = True  # False: everything but this

    @classmethod
    def of(cls, query: Query) -> "Asked":
        """What a sidecar says of `query`."""
        return cls(
            text=query.text,
            sounds_like=query.sounds_like,
            not_text=query.not_text,
            spans=tuple((float(start), float(end)) for start, end in query.spans),
            keep=query.keep,
        )


@dataclass(frozen=True)
class Tool:
    """What did the work."""

    name: str  # "unweave"
    version: str
    torch: str  # version


@dataclass(frozen=True)
class Model:
    """An engine, or a listener, and its weights."""

    name: str  # published name or path; "" when the caller brought an engine of its own
    weights_sha256: str | None  # of the weight file; None: not known
    device: str | None  # "cpu", "cuda:0"; None: the engine does not say
    sample_rate: int  # Hz it works at


@dataclass(frozen=True)
class Source:
    """The recording that was taken apart."""

    path: str  # as it was given
    sha256: str  # of the file
    format: str  # container, as the reader names it
    subtype: str  # sample format or codec
    sample_rate: int  # Hz
    channels: int
    frames: int  # samples per channel, as read
    seconds: float


@dataclass(frozen=True)
class Track:
    """One file that was written."""

    file: str  # name, next to the sidecar
    label: str  # the query's words, or "residual"
    kind: Kind
    query: Asked
    told: str  # what the engine listened for: the words and what it knows of them; "" if it does not say
    keep: bool
    level_dbfs: float | None  # RMS over the file; None: silent
    peak_dbfs: float | None  # largest magnitude; None: silent
    share: float  # 0..1, see judge.Tally; 1 for the residual
    score: float  # 0..1, the chance that the sound is there; without a listener, the share
    found: bool  # False: the sound is not there, and with a listener the track is silence
    spans: tuple[tuple[float, float], ...]  # seconds in which it was heard, or asked for; () = anywhere

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(
                f"{NAME} has a track of kind {self.kind!r}; the kinds are {', '.join(get_args(Kind))}"
            )


@dataclass(frozen=True)
class Chunking:
    """How a long recording was cut, seconds."""

    window: float  # heard at once
    context: float  # heard on either side and not used
    fade: float  # cross-fade between windows


@dataclass(frozen=True)
class Work:
    """How it was done."""

    seconds: float  # wall clock, hashing and writing included
    seconds_per_second: float | None  # of the recording; None: it is empty
    chunking: Chunking
    seed: int | None = None  # None: nothing was drawn


@dataclass(frozen=True)
class Separation:
    """Everything a sidecar says."""

    schema: int
    tool: Tool
    model: Model
    listener: Model | None  # None: nobody listened
    automatic: bool  # whether the listener chose the sounds
    source: Source
    stems: tuple[Track, ...]  # in query order, the residual last
    gain_db: float  # one gain for all files, 0 unless an integer format would have clipped
    sum_error_db: float | None  # dBFS peak of source - sum of the files; None: no error, or one file only
    work: Work
    warnings: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # captioner and chat that chose along with the listener, as they were named

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise UsageError(
                f"this {NAME} has schema {self.schema}, this version reads {SCHEMA}; "
                f"separate the recording anew"
            )


def to_json(separation: Separation) -> str:
    """Valid JSON, readable, the same for the same separation.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.
    """
    plain = dataclasses.asdict(separation)
    return json.dumps(plain, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> Separation:
    """The separation that `to_json` wrote.

    Raises:
        UsageError: not JSON, another schema, an unknown or missing key, or a value of another type.
    """
    try:
        values: Any = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise UsageError(f"not a {NAME}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"not a {NAME}: wants an object, got {type(values).__name__}")
    return from_dict(Separation, values)


def read(path: Path) -> Separation:
    """The sidecar at `path`.

    Raises:
        UsageError: it is missing, or not a sidecar.
    """
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def write(path: Path, separation: Separation) -> None:
    """Put the sidecar at `path` in one step: there is never half of one.

    Raises:
        OutputError: the folder cannot be written to.
    """
    text = to_json(separation)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}; choose another output folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
