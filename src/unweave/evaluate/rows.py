"""Rows on disk: one JSON line for each answer, written as soon as it is known, so that no work is lost."""

import base64
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unweave.errors import OutputError

DIGITS = 4  # of a decibel; beyond it is what another processor would round differently

Row = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """All that decides what the rows of one engine on one benchmark say."""

    unweave: str  # version
    engine: str
    weights: str  # sha256; "" for a system without
    benchmark: str
    sha256: str  # of the benchmark
    metrics: tuple[str, ...]  # sets
    raw: bool  # the bare engine
    device: str
    threads: int  # of a worker
    embedder: str = ""  # what semantic metrics listened with; "" without them
    definitions: int = 0  # of the metrics, `sets.DEFINITIONS`

    @property
    def digest(self) -> str:
        """Of everything above, hexadecimal."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def row(facts: Mapping[str, Any], values: Mapping[str, float]) -> Row:
    """One answer: `facts` about it and its metrics, rounded; what is not finite becomes null with the reason.

    >>> row({"query": 0}, {"sdr": 1.23456, "si_sdr": float("-inf")})
    {'query': 0, 'metrics': {'sdr': 1.2346, 'si_sdr': None}, 'undefined': {'si_sdr': '-infinite'}}
    """
    metrics = {
        name: round(value, DIGITS) + 0.0 if math.isfinite(value) else None for name, value in values.items()
    }
    reasons = {name: reason(value) for name, value in values.items() if not math.isfinite(value)}
    return {**facts, "metrics": metrics, **({"undefined": reasons} if reasons else {})}


def reason(value: float) -> str:
    """Why a value is not averaged.

    >>> reason(float("nan")), reason(float("inf"))
    ('undefined', 'infinite')
    """
    if math.isnan(value):
        return "undefined"
    return "infinite" if value > 0 else "-infinite"


def packed(vector: Tensor) -> str:
    """(D,) as text, 32-bit floats.

    >>> unpacked(packed(torch.tensor([1.0, -0.5])))
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    return base64.b64encode(vector.float().cpu().numpy().tobytes()).decode("ascii")


def unpacked(text: str) -> Tensor:
    """What `packed` made, (D,) float64."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32).double()


class RowFile:
    """The rows of one engine on one benchmark, appended item by item.

    The first line is the identity of the run. A line that a killed run left torn, and an item of which only
    some answers were written, are dropped when the file is opened again.

    Raises:
        OutputError: the file holds rows of another run, or cannot be written.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.done: dict[str, list[Row]] = {}  # by item
        self._header = json.dumps({"identity": dataclasses.asdict(identity), "digest": identity.digest})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                header, self.done = read(path)
                _refuse_other(path, header, identity)
            self._write(self.done)
            self._out = path.open("a", encoding="utf-8")
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write {path}: {error.strerror}; choose another folder with -o"
            ) from error

    def append(self, item: str, rows: Sequence[Row]) -> None:
        """All answers about one item, in one write."""
        self._out.write("".join(_line(one) for one in rows))
        self._out.flush()
        self.done[item] = list(rows)

    def finish(self, order: Iterable[str]) -> list[Row]:
        """Close the file with its items in `order`; the rows of those."""
        self.close()
        self.done = {item: self.done[item] for item in order if item in self.done} | self.done
        self._write(self.done)
        return [one for rows in self.done.values() for one in rows]

    def close(self) -> None:
        """Close the file; it can be resumed."""
        self._out.close()

    def _write(self, done: Mapping[str, Sequence[Row]]) -> None:
        lines = [self._header + "\n", *(_line(one) for rows in done.values() for one in rows)]
        write_atomically(self.path, "".join(lines))


def read(path: Path) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """Identity and whole items of a row file; what is torn or incomplete is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")  # a label may hold other line ends
    parsed = [found for line in lines if (found := _parsed(line)) is not None]
    header = parsed[0] if parsed and "digest" in parsed[0] else {}
    items: dict[str, dict[int, Row]] = {}
    for one in parsed:
        if "item" in one:
            items.setdefault(one["item"], {})[one["query"]] = one
    done = {item: [rows[i] for i in sorted(rows)] for item, rows in items.items()}
    return header, {item: rows for item, rows in done.items() if len(rows) == rows[0]["queries"]}


def write_atomically(path: Path, text: str) -> None:
    """`text` as the file `path`, or no change at all.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from error
    finally:
        part.unlink(missing_ok=True)


def _refuse_other(path: Path, header: Mapping[str, Any], identity: Identity) -> None:
    found = header.get("identity", {})
    if header.get("digest") == identity.digest:
        return
    wanted = json.loads(json.dumps(dataclasses.asdict(identity)))
    differ = [
        f"{name} {_short(found.get(name))} and not {_short(new)}"
        for name, new in wanted.items()
        if found.get(name) != new
    ]
    raise OutputError(
        f"{path} has rows of another run ({', '.join(differ) or 'it has no header'}); "
        f"delete it, or choose another folder with -o"
    )


def _short(value: Any) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text[:12] if len(text) == 64 else text or "none"


def _line(one: Row) -> str:
    return json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
