"""How the frozen benchmarks are drawn: from a seed, the same bytes in every run.

Every item is a function of the seed, the benchmark's name and its own number. Only `random.Random.random` is
drawn from, which Python promises to keep; gains are rounded to six digits, and follow from decoded samples,
so another decoder or resampler may change a last digit. The lists that come along do not depend on it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from torch import Tensor

from unweave.errors import UnknownNameError, UsageError
from unweave.evaluate.benchmarks import low_passed
from unweave.evaluate.frozen import Ask, Benchmark, Item, Piece, sealed
from unweave.evaluate.pool import (
    LEVEL,
    PEAK,
    SEED,
    Pool,
    integer,
    one_of,
    several_speakers,
    snr_db,
    uniform,
    wordings,
)
from unweave.signal.loudness import integrated_loudness

RATE = 32_000  # Hz
SPREAD_DB = 5.0  # the other sources lie within +- this of the first
SILENT = 1e-3  # rms; a song's stem below it is not asked for
LOW_PASS_HZ = 7500.0
STEMS = {"vocals": "singing voice", "drums": "drums", "bass": "bass guitar", "other": "other instruments"}

Draw = Callable[[Pool, str, int], list[Item]]  # pool, name of the benchmark, seed -> items


@dataclass(frozen=True)
class Recipe:
    """What a benchmark is made of."""

    about: str
    draw: Draw
    split: str = "dev"  # of the manifest; "" = not from it
    seconds: float = 5.0


def build(
    name: str,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
    seed: int = SEED,
    cache: Path | None = None,
) -> Benchmark:
    """Draw a benchmark from the clips below `root`.

    Args:
        name: one of `RECIPES`.
        root: folder that holds manifest.csv and its clips; for "songs", a folder songs/NAME/STEM.opus.
        progress: told how many clips of how many are decoded.
        seed: another one draws other mixtures.
        cache: where decoded samples are kept; None: `unweave.data.manifest.cache_folder`.

    Raises:
        UnknownNameError: no recipe of this name.
        UsageError: no manifest, no clip of the split, a clip is missing, or too few labels to tell apart.
        AudioError: a clip cannot be read.
    """
    if name not in RECIPES:
        raise UnknownNameError("benchmark", name, RECIPES)
    recipe = RECIPES[name]
    pool = Pool(root, recipe.split, RATE, cache, progress)
    items = recipe.draw(pool, name, seed)
    other = "" if seed == SEED else f" --seed {seed}"
    return sealed(
        Benchmark(
            name=name,
            sample_rate=RATE,
            seconds=recipe.seconds,
            seed=seed,
            command=f"unweave benchmarks build {name} --data ROOT" + other,
            files=pool.used(items),
            sha256="",
            items=tuple(items),
            about=recipe.about,
        )
    )


@dataclass(frozen=True)
class Plan:
    """How mixtures of several sounds are drawn."""

    items: int
    sources: tuple[int, ...] = (2,)  # the items take these in turn
    absent: int = 1  # queries for what is not there; -1: as many as there are sources
    seconds: float = 5.0


def mixtures(pool: Pool, name: str, seed: int, plan: Plan) -> list[Item]:
    """Sounds of different labels at once; every one is asked for, then some that are not there."""
    return [_mixture(pool, Random(f"{seed}/{name}/{n}"), f"{name}/{n}", n, plan) for n in range(plan.items)]


def _mixture(pool: Pool, draw: Random, identity: str, number: int, plan: Plan) -> Item:
    count = plan.sources[number % len(plan.sources)]
    labels = pool.labels_apart(count + (count if plan.absent < 0 else plan.absent), draw)
    length = round(plan.seconds * RATE)
    pieces: list[Piece] = []
    groups: set[str] = set()
    for label in labels[:count]:
        clip = one_of([clip for clip in pool.of_label[label] if clip.group not in groups], draw)
        groups.add(clip.group)
        louder_db = uniform(-SPREAD_DB, SPREAD_DB, draw) if pieces else 0.0
        piece = pool.piece(clip.file, length, draw)
        rms = LEVEL * 10 ** (louder_db / 20)
        pieces.append(_louder(piece, rms * math.sqrt(length / pool.energy(piece))))
    queries = [Ask(label, (n,) if n < count else (), label) for n, label in enumerate(labels)]
    return _finished(pool, Item(identity, length, tuple(pieces), tuple(range(count)), tuple(queries), None))


def paraphrased(pool: Pool, name: str, seed: int, items: int, like: str, plan: Plan) -> list[Item]:
    """The first mixtures of another benchmark, asked for in words that were never trained with."""
    words = wordings()
    found = []
    for number, item in enumerate(mixtures(pool, like, seed, replace(plan, items=items))):
        draw = Random(f"{seed}/{name}/{number}")
        asked = []
        for ask in item.queries:
            if ask.label not in words:
                raise UsageError(f"no other wording is written down for {ask.label!r}; add one to words.json")
            asked.append(replace(ask, text=one_of(words[ask.label], draw)))
        found.append(replace(item, id=f"{name}/{number}", queries=tuple(asked)))
    return found


def low_pass(pool: Pool, name: str, seed: int, items: int, like: str, plan: Plan) -> list[Item]:
    """The first mixtures of another benchmark at their levels, everything above `LOW_PASS_HZ` cut away."""
    found = []
    for number, item in enumerate(mixtures(pool, like, seed, replace(plan, items=items))):
        item = replace(item, id=f"{name}/{number}", low_pass_hz=LOW_PASS_HZ)
        found.append(replace(item, snr_db=_snr_db(pool, item)))
    return found


def speakers(pool: Pool, name: str, seed: int, items: int, seconds: float = 5.0) -> list[Item]:
    """Two people at once, each asked for by the words "speech" and 3 s of another clip of the same person.

    As in Libri2Mix (Cosentino et al., 2020) each is set to -33..-25 LUFS. Speakers with a single clip only
    talk in the background: with words alone, a query for one of two speakers has no answer.
    """
    spoken: dict[str, list[str]] = {}
    for clip in pool.clips:
        if clip.domain == "speech" and clip.group not in several_speakers():
            spoken.setdefault(clip.group, []).append(clip.file)
    known = [group for group, files in spoken.items() if len(files) > 1]
    if not known or len(spoken) < 2:
        raise UsageError(f"{name} wants two speakers, one with two clips, got {len(spoken)}, {len(known)}")
    length, found = round(seconds * RATE), []
    for number in range(items):
        draw = Random(f"{seed}/{name}/{number}")
        first = one_of(known, draw)
        second = one_of([group for group in spoken if group != first], draw)
        pieces, queries = [], []
        for source, group in enumerate((first, second)):
            file = one_of(spoken[group], draw)
            piece = pool.piece(file, length, draw)
            loudness = integrated_loudness(pool.samples(piece)[None], RATE)
            pieces.append(_louder(piece, 10 ** ((uniform(-33, -25, draw) - loudness) / 20)))
            others = [other for other in spoken[group] if other != file]
            if others:
                example = _example(pool, others, 3 * RATE, draw)
                queries.append(Ask("speech", (source,), "speech", example))
        item = Item(f"{name}/{number}", length, tuple(pieces), (0, 1), tuple(queries), None)
        found.append(_finished(pool, item))
    return found


def _example(pool: Pool, files: Sequence[str], length: int, draw: Random) -> Piece:
    """`length` samples of one of `files`; of a shorter one only when none is long enough."""
    long_enough = [file for file in files if pool.length(file) >= length]
    piece = pool.piece(one_of(long_enough or files, draw), length, draw)
    piece = replace(piece, at=0)
    return _louder(piece, LEVEL * math.sqrt(piece.length / pool.energy(piece)))


def songs(pool: Pool, name: str, seed: int, seconds: float = 10.0) -> list[Item]:
    """Neighbouring excerpts of every song; the stems as they are. A stem that pauses is not asked for."""
    found, length = [], round(seconds * RATE)
    stems = {song.name: sorted(song.glob("*.*")) for song in sorted((pool.root / "songs").glob("*"))}
    if not stems:
        raise UsageError(f"no song below {pool.root / 'songs'}; wanted: songs/NAME/vocals.opus and so on")
    for song, paths in stems.items():
        files = {path.stem: pool.add(f"songs/{song}/{path.name}") for path in paths if path.stem in STEMS}
        order = [stem for stem in STEMS if stem in files]
        for number in range(min(pool.length(file) for file in files.values()) // length):
            pieces = tuple(Piece(files[stem], number * length, length, 0, 1.0) for stem in order)
            loud = [pool.energy(piece) > length * SILENT**2 for piece in pieces]
            queries = tuple(Ask(STEMS[stem], (n,), stem) for n, stem in enumerate(order) if loud[n])
            channels = max(pool.channels(file) for file in files.values())
            item = Item(f"{name}/{song}-{number}", length, pieces, tuple(range(len(order))), queries, None)
            found.append(replace(item, snr_db=_snr_db(pool, item), channels=channels))
    return found


def scenes(pool: Pool, name: str, seed: int, items: int, seconds: float = 600.0) -> list[Item]:
    """Long recordings: many short events of several labels, pauses between them, half a minute of silence."""
    return [_scene(pool, Random(f"{seed}/{name}/{n}"), f"{name}/{n}", seconds) for n in range(items)]


def _scene(pool: Pool, draw: Random, identity: str, seconds: float) -> Item:
    length, quiet = round(seconds * RATE), round(seconds / 20 * RATE)
    count = 6 + integer(6, draw)
    labels = pool.labels_apart(count + 1, draw)
    silence = integer(length - quiet, draw)
    pieces: list[Piece] = []
    of: list[int] = []
    while len(pieces) < 70:
        # Every label at least once, the others as they come.
        source = len(pieces) if len(pieces) < count else integer(count, draw)
        piece = pool.piece(one_of(pool.of_label[labels[source]], draw).file, 8 * RATE, draw)
        at = integer(length - piece.length, draw)
        if silence - piece.length < at < silence + quiet:
            continue
        rms = LEVEL * 10 ** (uniform(-SPREAD_DB, SPREAD_DB, draw) / 20)
        piece = replace(piece, at=at)
        pieces.append(_louder(piece, rms * math.sqrt(piece.length / pool.energy(piece))))
        of.append(source)
    queries = [Ask(label, (n,) if n < count else (), label) for n, label in enumerate(labels)]
    item = Item(identity, length, tuple(pieces), tuple(of), tuple(queries), None)
    return replace(_finished(pool, item), snr_db=None)  # over ten minutes it says nothing


def _louder(piece: Piece, factor: float) -> Piece:
    return replace(piece, gain=float(f"{piece.gain * factor:.6g}"))


def _finished(pool: Pool, item: Item) -> Item:
    """Quieter if the mixture would exceed full scale, and with its SNR."""
    peak = float(_sum(pool, item, item.pieces).abs().max())
    if peak > PEAK:
        item = replace(item, pieces=tuple(_louder(piece, PEAK / peak) for piece in item.pieces))
    return replace(item, snr_db=_snr_db(pool, item))


def _snr_db(pool: Pool, item: Item) -> float | None:
    """Of the first query's source over everything else; None without an answer or without anything else."""
    if not item.queries:
        return None
    asked = item.queries[0].sources
    parts = [
        [piece for piece, source in zip(item.pieces, item.of, strict=True) if (source in asked) == wanted]
        for wanted in (True, False)
    ]
    source, rest = (_sum(pool, item, part) for part in parts)
    return snr_db(source, rest)


def _sum(pool: Pool, item: Item, pieces: Sequence[Piece]) -> Tensor:
    """(T,) mono sum of some pieces of an item, cut as the item is."""
    total = pool.sum(pieces, item.length)
    return low_passed(total, item.low_pass_hz, RATE) if item.low_pass_hz else total


_TWO = Plan(500)
RECIPES: dict[str, Recipe] = {
    "seen-2": Recipe("two sounds at once, labels that were trained on", partial(mixtures, plan=_TWO)),
    "unseen-2": Recipe(
        "two sounds at once, labels never trained on", partial(mixtures, plan=_TWO), "dev_unseen"
    ),
    "unseen-3": Recipe(
        "three sounds at once, labels never trained on",
        partial(mixtures, plan=Plan(200, (3,))),
        "dev_unseen",
    ),
    **{
        f"seen-{count}": Recipe(
            f"{word} sounds at once, labels that were trained on",
            partial(mixtures, plan=Plan(200, (count,))),
        )
        for count, word in {3: "three", 4: "four", 5: "five", 6: "six"}.items()
    },
    "absent": Recipe(
        "two or three sounds at once; half of the queries ask for what is not there",
        partial(mixtures, plan=Plan(240, (2, 3), absent=-1)),
    ),
    "paraphrase": Recipe(
        "the first 200 of seen-2, asked for in words never trained with",
        partial(paraphrased, items=200, like="seen-2", plan=_TWO),
    ),
    "low-passed": Recipe(
        "the first 200 of seen-2, everything cut at 7.5 kHz",
        partial(low_pass, items=200, like="seen-2", plan=_TWO),
    ),
    "speech-2": Recipe("two people at once, asked for by example", partial(speakers, items=200)),
    "songs": Recipe("the stems of three songs", songs, split="", seconds=10.0),
    "long": Recipe("ten minutes of many events and silence", partial(scenes, items=5), seconds=600.0),
    "tiny": Recipe(
        "a smoke test on the clips in tests/data",
        partial(mixtures, plan=Plan(24, (2, 3), seconds=3.0)),
        split="test",
        seconds=3.0,
    ),
}
