"""Shards: a manifest's clips in tar files, of a size that disks and networks read well; and mixtures of them.

A shard is laid out as the webdataset library reads and writes it: ``00000012.json`` (the row of the manifest)
before ``00000012.opus`` (the clip as it is), and so on. That library would also unpickle members by their
names and run the addresses of shards as commands, so it is not used here: members are read in memory, and one
that is neither JSON nor sound by its name ends the reading.
"""

import hashlib
import io
import itertools
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unweave.config import from_dict
from unweave.data.manifest import COLUMNS, Clip, decoded, floats, read_manifest, read_rows
from unweave.data.mixtures import MakeMixer, Mixer, Mixture
from unweave.errors import AudioError, OutputError, UsageError
from unweave.hub import file_sha256

INDEX = "index.json"
POOL = 4  # shards whose clips are in memory at the same time, and so can meet in a mixture
_FORMAT = 1
_PROGRESS = ".finished.jsonl"
_SOUNDS = frozenset(["wav", "flac", "aif", "aiff", "caf", "mp3", "ogg", "oga", "opus", "m4a", "aac", "wma"])
_MEMBER = re.compile(rf"(\d{{8}})\.(json|{'|'.join(sorted(_SOUNDS))})")
_FILE = re.compile(r"[\w-]+\.tar")


@dataclass(frozen=True)
class Shard:
    """One tar file, as the index tells of it."""

    file: str  # beside the index
    sha256: str  # of its content
    clips: int
    seconds: float
    labels: dict[str, int]  # clips of each
    made_from: str  # sha256 of the rows and the files' sizes


def is_sharded(data: Path) -> bool:
    """Whether a folder holds shards rather than a manifest."""
    return (data / INDEX).is_file() and not (data / "manifest.csv").exists()


def write_shards(
    data: Path,
    out: Path,
    split: str = "train",
    megabytes: float = 64.0,
    advance: Callable[[int, int], None] | None = None,
) -> list[Shard]:
    """Put the clips of `split` of the manifest in `data` into shards in `out`, and an index beside them.

    The order is mixed by a hash of the group, so a shard holds a bit of everything, and a group is never
    parted: whoever holds out a shard holds out recordings. The same manifest makes the same bytes. A run that
    was broken off goes on when it is started again: a shard appears when it is whole, the index at the end.

    Args:
        megabytes: a shard that has reached them takes no further group; 1 MB = 10**6 bytes.
        advance: called with the shards finished and those there will be.

    Raises:
        UsageError: no such manifest or split, a clip is missing or of an unknown kind, or a size of 0.
        OutputError: `out` holds an index already.
    """
    if megabytes <= 0:
        raise UsageError(f"the size of a shard is in megabytes and above 0, got {megabytes}")
    if (out / INDEX).exists():
        raise OutputError(f"{out} holds finished shards already; choose another folder with --out")
    plan = _plan(data, split, megabytes * 1e6)
    out.mkdir(parents=True, exist_ok=True)
    finished = _finished(out / _PROGRESS)
    shards = []
    for number, members in enumerate(plan):
        name = f"{split}-{number:05d}.tar"
        made_from = hashlib.sha256(json.dumps([list(member) for member in members]).encode()).hexdigest()
        shard = finished.get(name)
        if shard is None or shard.made_from != made_from or not (out / name).exists():
            shard = _write(data, out / name, members, made_from)
            with (out / _PROGRESS).open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(shard)) + "\n")
        shards.append(shard)
        if advance is not None:
            advance(len(shards), len(plan))
    document = {"format": _FORMAT, "split": split, "shards": [asdict(shard) for shard in shards]}
    part = out / f".{INDEX}.part"
    part.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(out / INDEX)
    (out / _PROGRESS).unlink(missing_ok=True)
    return shards


def read_index(folder: Path, split: str = "train") -> list[Shard]:
    """The shards of a folder.

    Raises:
        UsageError: no index, not one of ours, or of another split.
    """
    path = folder / INDEX
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise UsageError(f"{path} is of format {document['format']}, wanted is {_FORMAT}; shard it anew")
        if document["split"] != split:
            raise UsageError(f"{folder} holds shards of split {document['split']!r}, wanted is {split!r}")
        shards = [from_dict(Shard, entry) for entry in document["shards"]]
    except FileNotFoundError:
        raise UsageError(f"no {path}; make shards with: unweave data shard") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no index of shards: {error!r}; make shards anew") from error
    for shard in shards:
        if not _FILE.fullmatch(shard.file):
            raise UsageError(f"{path} names {shard.file!r}; shards lie beside their index")
    return shards


def read_shard(folder: Path, shard: Shard) -> Iterator[tuple[Clip, str, bytes]]:
    """Every clip of a shard in its order: its row, the extension of its sound, and the sound's bytes.

    Raises:
        AudioError: the file is missing, not the one of the index, or holds anything but rows and sounds.
    """
    path = folder / shard.file
    if not path.is_file() or file_sha256(path) != shard.sha256:
        raise AudioError(f"{path} is missing or not the file of the index; make the shards anew")
    row: tuple[str, Clip] | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, kind, content = _content(tar, member)
                if kind == "json":
                    row = key, _clip(content)
                elif row is None or row[0] != key:
                    raise AudioError(f"{path}: {member.name!r} has no row before it; make the shards anew")
                else:
                    yield row[1], kind, content
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path} is damaged: {error}; make the shards anew") from error


class ShardMixer:
    """Mixtures from shards, with the clips of a few of them in memory. Implements `mixtures.Mixtures`.

    A mixture needs clips of certain labels at once, which a stream cannot give. So there is a pool: the
    clips of `POOL` shards, from which mixtures are drawn as from a manifest. When a process has drawn as many
    mixtures as a shard has clips, the oldest shard leaves the pool and the next one enters. Which shards
    these are is known from the mixture's number alone, so there is no position to save: whoever asks
    for mixture 70,000 gets it, at the price of reading one pool.

    Args:
        shards: those to draw from, all of them, in the same order in every process.
        make: makes the mixer of a pool, with a seed.
        place: which process this is, and how many there are; each draws from shards of its own.

    Raises:
        UsageError: fewer shards than processes.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[Shard],
        sample_rate: int,
        seed: int,
        make: MakeMixer,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        index, count = place
        if len(shards) < count:
            raise UsageError(
                f"{count} processes want as many shards to learn from, {folder} has {len(shards)}; "
                f"make smaller ones with --size"
            )
        self.seed, self.shards = seed, shards[index::count]
        self._folder, self._rate, self._make = folder, sample_rate, make
        self._stay = max(1, count * sum(shard.clips for shard in shards) // len(shards))
        self._turn = -1
        self._held: dict[str, _Pool] = {}
        self._mixer: Mixer | None = None

    def pool(self, number: int) -> list[Shard]:
        """The shards that mixture `number` is drawn from: all of ours in turn, shuffled anew every round."""
        turn = number // self._stay
        found = []
        for place in range(turn, turn + POOL):
            again, which = divmod(place, len(self.shards))
            draw = torch.Generator().manual_seed(self.seed * 15_485_863 + again)
            order = torch.randperm(len(self.shards), generator=draw)
            found.append(self.shards[int(order[which])])
        return list({shard.file: shard for shard in found}.values())

    def draw(self, number: int) -> Mixture:
        """Mixture `number` of this seed; one that lies far from the last reads shards first."""
        turn = number // self._stay
        if self._mixer is None or turn != self._turn:
            pool = self.pool(number)
            self._held = {
                shard.file: self._held.get(shard.file) or _Pool(self._decoded(shard), self._rate)
                for shard in pool
            }
            clips = itertools.chain.from_iterable(held.held for held in self._held.values())
            self._mixer, self._turn = self._make(_Pool(clips, self._rate), self.seed), turn
        return self._mixer.draw(number)

    def _decoded(self, shard: Shard) -> Iterator[tuple[Clip, NDArray[np.int16]]]:
        with tempfile.TemporaryDirectory() as folder:
            for clip, kind, content in read_shard(self._folder, shard):
                path = Path(folder) / f"clip.{kind}"  # FFmpeg reads files
                path.write_bytes(content)
                yield clip, decoded(path, self._rate)


class _Pool:
    """Decoded clips in memory, 16 bits a sample."""

    def __init__(self, held: Iterator[tuple[Clip, NDArray[np.int16]]], sample_rate: int) -> None:
        self.held, self.sample_rate = list(held), sample_rate
        self.clips: Sequence[Clip] = [clip for clip, _ in self.held]

    def __getitem__(self, index: int) -> Tensor:
        return floats(self.held[index][1]).mean(0)


def _plan(data: Path, split: str, limit: float) -> list[list[tuple[str, dict[str, Any], int]]]:
    """For each shard its clips: key, row and bytes."""
    read_manifest(data, split)  # says what is wrong with it
    rows = [row for row in read_rows(data) if row["split"] == split]
    rows.sort(key=lambda row: (hashlib.sha256(row["group"].encode()).digest(), row["file"]))
    plan: list[list[tuple[str, dict[str, Any], int]]] = [[]]
    full, number = 0, 0
    for _, group in itertools.groupby(rows, key=lambda row: row["group"]):
        if full >= limit:
            plan.append([])
            full = 0
        for row in group:
            path = data / row["file"]
            if not path.is_file() or path.suffix.lower().lstrip(".") not in _SOUNDS:
                raise UsageError(
                    f"{path}, which manifest.csv lists, is missing or none of {', '.join(sorted(_SOUNDS))}; "
                    f"complete the folder or the list"
                )
            size = path.stat().st_size
            plan[-1].append((f"{number:08d}", row | {"seconds": float(row["seconds"])}, size))
            full += size
            number += 1
    return plan


def _write(data: Path, target: Path, members: list[tuple[str, dict[str, Any], int]], made_from: str) -> Shard:
    """A shard, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, row, _ in members:
                path = data / row["file"]
                _append(tar, f"{key}.json", json.dumps(row, ensure_ascii=False).encode())
                _append(tar, f"{key}{path.suffix.lower()}", path.read_bytes())
        out.flush()
        os.fsync(out.fileno())
    sha256 = file_sha256(part)
    part.replace(target)
    labels = [str(row["label"]) for _, row, _ in members]
    counts = {label: labels.count(label) for label in sorted(set(labels))}
    seconds = round(sum(row["seconds"] for _, row, _ in members), 3)
    return Shard(target.name, sha256, len(members), seconds, counts, made_from)


def _append(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of nobody and of no time, so that the same clips make the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _finished(path: Path) -> dict[str, Shard]:
    """What an earlier run wrote; the line that it was killed at does not count."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            shard = from_dict(Shard, json.loads(line))
        except (json.JSONDecodeError, UsageError):
            continue
        found[shard.file] = shard
    return found


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, str, bytes]:
    """Key, kind and bytes of a member whose name and type are what they should be."""
    match = _MEMBER.fullmatch(member.name)
    # A sparse file may be petabytes of nothing.
    opened = tar.extractfile(member) if match and member.isreg() and not member.issparse() else None
    if match is None or opened is None:
        raise AudioError(
            f"{tar.name!s} holds {member.name!r}, which is neither a row nor a sound; do not use it, or make "
            f"the shards anew from a folder you trust"
        )
    return match[1], match[2], opened.read()


def _clip(content: bytes) -> Clip:
    row = json.loads(content)
    return from_dict(Clip, {column: row[column] for column in COLUMNS})
