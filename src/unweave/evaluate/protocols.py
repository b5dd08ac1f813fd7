"""Frozen lists from public corpora: the mixtures that a corpus publishes, or drawn as a paper says.

Every mixture is a function of the seed, the corpus's name and its own number; gains follow from the decoded
samples. The same files and seed give the same bytes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from unweave.data import corpora
from unweave.data.corpora.protocol import Found, Mix, Protocol, Take
from unweave.errors import UsageError
from unweave.evaluate.frozen import Ask, Benchmark, Item, Piece, sealed
from unweave.evaluate.pool import LEVEL, PEAK, SEED, Pool, integer, one_of, snr_db, uniform

QUIETEST = 1e-3  # rms over the mixture; a drawn source below is drawn again
TRIES = 200  # draws of one mixture, and of each partner in it, before giving up


def build(
    corpus: str,
    root: Path,
    seed: int = SEED,
    count: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    found: Found | None = None,
    cache: Path | None = None,
) -> Benchmark:
    """The frozen list of a public corpus, by its protocol.

    What of the corpus is missing is in `found`, for the caller to tell; the list is made of the rest.

    Args:
        corpus: one of `corpora.available()`.
        root: the corpus's folder, as the docstring of its file shows it.
        seed: another one draws other mixtures, and other examples for published ones.
        count: mixtures; None: the protocol's number. Of a published list this many are drawn, in its order.
        progress: told how many mixtures of how many are done.
        found: ``corpora.load(corpus).clips(root)``, where the caller has it already.
        cache: where decoded samples are kept; None: `unweave.data.manifest.cache_folder`.

    Raises:
        UnknownNameError: no corpus of this name.
        UsageError: malformed metadata, no clip at all, no two clips that may be mixed, or a count below 1.
        AudioError: a clip that is needed cannot be decoded.
    """
    module = corpora.load(corpus)
    protocol = module.PROTOCOL
    found = found or module.clips(root)
    if count is not None and count < 1:
        raise UsageError(f"a benchmark wants 1 mixture or more, got --count {count}")
    if not (found.clips and (found.mixes or protocol.count)):
        raise UsageError(
            f"nothing to mix for {corpus} below {root}: {len(found.missing)} files are missing"
            f"{', the first is ' + found.missing[0] if found.missing else ''}; complete the folder"
        )
    mixer = _Mixer(corpus, found, protocol, seed, Pool(root, "", protocol.sample_rate, cache))
    draws = mixer.published(count) if protocol.count == 0 else mixer.numbers(count or protocol.count)
    items = []
    for draw in draws:
        items.append(draw())
        if progress is not None:
            progress(len(items), len(draws))
    return sealed(mixer.benchmark(items, count))


class _Mixer:
    """Makes the items of one corpus."""

    def __init__(self, corpus: str, found: Found, protocol: Protocol, seed: int, pool: Pool) -> None:
        self.corpus, self.found, self.protocol, self.seed, self.pool = corpus, found, protocol, seed, pool
        self.groups: dict[str, list[Take]] = {}
        for take in found.clips:
            self.groups.setdefault(take.group, []).append(take)

    def numbers(self, count: int) -> list[Callable[[], Item]]:
        """Draws of `count` mixtures; every clip comes first equally often, give or take one."""
        draw = Random(f"{self.seed}/{self.corpus}")
        order = sorted(self.found.clips, key=lambda _: draw.random())
        return [partial(self._drawn, number, order[number % len(order)]) for number in range(count)]

    def published(self, count: int | None) -> list[Callable[[], Item]]:
        """The corpus's own mixtures, or `count` of them."""
        mixes, draw = self.found.mixes, Random(f"{self.seed}/{self.corpus}")
        order = sorted(range(len(mixes)), key=lambda _: draw.random())
        chosen = sorted(order[: count or len(mixes)])
        return [partial(self._published, mixes[number]) for number in chosen]

    def benchmark(self, items: Sequence[Item], count: int | None) -> Benchmark:
        """The list, not sealed yet."""
        command = f"unweave benchmarks build {self.corpus} --data ROOT --seed {self.seed}"
        return Benchmark(
            name=self.corpus,
            sample_rate=self.protocol.sample_rate,
            seconds=max(item.length for item in items) / self.protocol.sample_rate,
            seed=self.seed,
            command=command + (f" --count {count}" if count else ""),
            files=self.pool.used(items),
            sha256="",
            items=tuple(items),
            about=self.protocol.origin,
        )

    def _published(self, mix: Mix) -> Item:
        takes = (*mix.sources, mix.mixture) if mix.mixture else mix.sources
        length = min(self._length(take) for take in takes)
        pieces = [Piece(take.file, 0, length, 0, 1.0) for take in takes]
        of = list(range(len(pieces)))
        if mix.mixture:
            # What else sounds is the mixture without what is asked for.
            pieces += [replace(piece, gain=-1.0) for piece in pieces[:-1]]
            of += [of[-1]] * len(mix.sources)
        if mix.snr_db is not None:
            pieces = self._levelled(pieces, mix.snr_db, length, None)
        draw = Random(f"{self.seed}/{self.corpus}/{mix.id}")
        item = self._item(mix.id, length, pieces, of, mix.sources, draw)
        if item is None:
            raise UsageError(
                f"{mix.id} of {self.corpus} wants an example, its speaker has one utterance only"
            )
        return item

    def _drawn(self, number: int, first: Take) -> Item:
        draw, protocol = Random(f"{self.seed}/{self.corpus}/{number}"), self.protocol
        for attempt in range(TRIES):
            if attempt >= TRIES // 10:
                first = one_of(self.found.clips, draw)  # the one whose turn it is fits nothing, or is silent
            fewest, most = protocol.sources
            takes = self._partners(first, fewest + integer(most - fewest + 1, draw), draw)
            length = round(uniform(*protocol.seconds, draw) * protocol.sample_rate)
            pieces = self._placed(takes, length, draw) if takes else []
            if not pieces or min(map(self.pool.energy, pieces)) < length * QUIETEST**2:
                continue
            if protocol.snr_db is not None:
                pieces = self._levelled(pieces, round(uniform(*protocol.snr_db, draw), 2), length, LEVEL)
            item = self._item(str(number), length, pieces, range(len(pieces)), takes, draw)
            if item is not None:
                return item
        labels = len({take.label for take in self.found.clips})
        raise UsageError(
            f"no mixture of {self.corpus} could be drawn in {TRIES} tries from {len(self.found.clips)} clips "
            f"of {labels} labels in {len(self.groups)} groups; partners want {protocol.partners!r} and to "
            f"be heard. Complete the folder"
        )

    def _partners(self, first: Take, count: int, draw: Random) -> tuple[Take, ...]:
        """`first` and others that may sound with it; () where none were found."""
        chosen = [first]
        together = self.protocol.partners == "same recording"
        pool = self.groups[first.group] if together else self.found.clips
        for _ in range(TRIES):
            if len(chosen) == count:
                return tuple(chosen)
            other = one_of(pool, draw)
            if all(self._apart(other, one) for one in chosen):
                chosen.append(other)
        return ()

    def _apart(self, one: Take, other: Take) -> bool:
        if self.protocol.partners == "same recording":
            return one.label != other.label
        if one.group == other.group:
            return False
        return self.protocol.partners == "other group" or not one.sounds & other.sounds

    def _placed(self, takes: Sequence[Take], length: int, draw: Random) -> list[Piece]:
        """A crop of each where it sounds; stems of one recording at the same place, behind their example."""
        if self.protocol.partners != "same recording":
            return [self.pool.piece(self._known(take), length, draw) for take in takes]
        before = round(self.protocol.example_seconds * self.protocol.sample_rate)
        spare = min(self._length(take) for take in takes) - before - length
        if spare < 0:
            return []
        start = before + integer(spare + 1, draw)
        return [Piece(take.file, start, length, 0, 1.0) for take in takes]

    def _levelled(
        self, pieces: Sequence[Piece], snr_db: float, length: int, level: float | None
    ) -> list[Piece]:
        """The first at `level` rms, or as it is; the others equally strong, together `snr_db` below it."""
        energies = [self.pool.energy(piece) for piece in pieces]
        for piece, energy in zip(pieces, energies, strict=True):
            if not energy:
                raise UsageError(f"cannot mix at {snr_db:g} dB: {piece.file} is silent; get the file again")
        others = [replace(piece, gain=energies[n] ** -0.5) for n, piece in enumerate(pieces) if n]
        rest = float(self.pool.sum(others, length).double().square().sum())
        wanted = energies[0] if level is None else level**2 * length
        quieter = math.sqrt(wanted * 10 ** (-snr_db / 10) / rest)
        loud = [_times(pieces[0], math.sqrt(wanted / energies[0])), *(_times(one, quieter) for one in others)]
        peak = float(self.pool.sum(loud, length).abs().max())
        return [_times(piece, PEAK / peak) for piece in loud] if peak > 1 else loud

    def _item(
        self,
        name: str,
        length: int,
        pieces: Sequence[Piece],
        of: Sequence[int],
        takes: Sequence[Take],
        draw: Random,
    ) -> Item | None:
        """None where an example is wanted and there is none."""
        queries = []
        for source, take in enumerate(takes[: self.protocol.asked]):
            example = None
            if self.protocol.example_seconds:
                example = self._example(take, pieces[source], draw)
                if example is None:
                    return None
            queries.append(Ask(take.label, (source,), take.label, example))
        first = self.pool.sum(
            [piece for piece, source in zip(pieces, of, strict=True) if source == 0], length
        )
        rest = self.pool.sum([piece for piece, source in zip(pieces, of, strict=True) if source != 0], length)
        channels = 1
        if self.protocol.partners == "same recording":
            channels = max(self.pool.channels(piece.file) for piece in pieces)
        return Item(
            f"{self.corpus}/{name}",
            length,
            tuple(pieces),
            tuple(of),
            tuple(queries),
            snr_db(first, rest),
            channels=channels,
        )

    def _example(self, take: Take, piece: Piece, draw: Random) -> Piece | None:
        """What directly precedes a stem's piece, or a stretch of another recording of the same group."""
        length = round(self.protocol.example_seconds * self.protocol.sample_rate)
        if self.protocol.partners == "same recording":
            return replace(piece, start=piece.start - length, length=length)
        others = [other for other in self.groups[take.group] if not other.sounds & take.sounds]
        if not others:
            return None
        long_enough = [other for other in others if other.seconds >= self.protocol.example_seconds]
        example = self.pool.piece(self._known(one_of(long_enough or others, draw)), length, draw)
        return replace(example, at=0)

    def _known(self, take: Take) -> str:
        if take.file not in self.pool.hashes:
            self.pool.add(take.file)
        return take.file

    def _length(self, take: Take) -> int:
        return self.pool.length(self._known(take))


def _times(piece: Piece, factor: float) -> Piece:
    return replace(piece, gain=float(f"{piece.gain * factor:.9g}"))
