"""Everything at once: hear what is there, take it out, check it, and listen again to what is left.

The first half of OpenSep (Mahmud and Marculescu, EMNLP 2024) with a listener in the place of captioner and
language model, or beside them, and with two steps more: a sound that the stem does not confirm is put back,
and the rest is listened to again, because loud sounds hide quiet ones.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unweave.encoders.minilm import MiniLM
from unweave.errors import QueryError, UsageError
from unweave.language import knowledge
from unweave.language.parse import parse
from unweave.listen.merging import MEANS_THE_SAME
from unweave.pipeline import presence
from unweave.pipeline.apart import Apart, Spans, widened
from unweave.pipeline.naming import slug
from unweave.pipeline.rig import Rig
from unweave.types import Heard, Query

if TYPE_CHECKING:
    from unweave.listen.tagger import Impression

MARGIN = 1.0  # seconds around each span in which a sound is looked for: attacks and tails are heard late
GAP = 1.0  # seconds; spans nearer than this are asked for as one
FAINT_DB = 50.0  # what is left and this far below the loudest moment of the recording is remnants and noise
GOES = 3  # times that names which were not confirmed make room for less certain ones, before listening again


@dataclass(frozen=True)
class Limits:
    """When to stop."""

    tracks: int = 8  # sounds; all others stay in the residual
    rounds: int = 2  # how often what is left is listened to

    def __post_init__(self) -> None:
        if self.tracks < 1 or self.rounds < 1:
            raise UsageError(
                f"the automatic mode wants room for one track and one round at least, "
                f"got {self.tracks} and {self.rounds}"
            )


@dataclass(frozen=True)
class Guess:
    """A sound that may be in a recording."""

    name: str
    score: float  # 0..1, the listener's
    spans: Spans  # seconds
    sounds_like: str = ""  # in a dozen words; "": the engine knows, or nobody does

    @property
    def query(self) -> Query:
        """The question whether it is, and where it is looked for."""
        return Query(self.name, self.sounds_like, spans=widened(self.spans, MARGIN, GAP))


def split(apart: Apart, limits: Limits) -> list[str]:
    """Take everything out of a recording that its listener hears in it, the most certain sound first.

    Stems that are most likely not what they are called are put back. No two have the same name.

    Args:
        apart: with ears; nothing taken yet.
        limits: when to stop.

    Returns:
        What is to be said to people: that nothing was found, or what was heard and not looked for.

    Raises:
        UsageError: there are no ears.
        DeviceError: the engine ran out of memory.
        OutputError: the disk is full.
    """
    ears = apart.rig.ears
    if ears is None:
        raise UsageError(
            "finding the sounds of a recording takes a listener; name the model instead of handing in an "
            "engine, or name the sounds"
        )
    tried: list[str] = []
    crowd: list[Guess] = []
    said: list[str] = []
    named: list[Heard] = []  # by captions
    faint = -math.inf  # dBFS
    fitted = apart.rig.presence or presence.shipped()

    def floor(name: str) -> float:
        # What a caption names stays as what a person names does: unless it is most likely not there.
        told = any(_same(name, one.text, ears.alike) for one in named)
        return fitted.silence if told else fitted.drop

    for number in range(limits.rounds):
        if len(apart.parts) == limits.tracks:
            break
        impression = ears.follow(apart.left(), apart.recording.sample_rate)
        if number == 0 and apart.rig.captions is not None:
            named, said = captioned(apart, impression)
        heard = [*ears.heard(impression), *(named if number == 0 else ())]
        crowd = guesses(_above(heard, impression, faint), tried, ears.alike)
        if not crowd:
            break
        faint = max(faint, float(impression.level_db.max()) - FAINT_DB)
        for _ in range(GOES):
            room = limits.tracks - len(apart.parts)
            chosen, crowd = crowd[:room], crowd[room:]
            if not chosen:
                break
            tried += [guess.name for guess in chosen]
            _take(apart, chosen, [floor(guess.name) for guess in chosen])
    apart.parts.sort(key=lambda part: -part.verdict.score)
    return [*said, *_said(apart, crowd, limits)]


def captioned(apart: Apart, impression: "Impression") -> tuple[list[Heard], list[str]]:
    """The sounds that a captioner names, each as surely as the listener thinks; and what went wrong.

    Args:
        apart: with ears and captions; nothing taken yet.
        impression: of the whole recording.
    """
    rig, found, said = apart.rig, [], []
    if rig.captions is None or rig.ears is None:
        raise UsageError("naming sounds by captions takes a captioner and a listener; load both")
    for sentence in rig.captions.follow(apart.left(), apart.recording.sample_rate):
        try:
            parsed = parse(sentence.text, rig.chat)
        except QueryError as error:
            said.append(f"the caption {sentence.text[:80]!r} was left out: {error}")
            continue
        if rig.chat is not None and parsed.note:
            said.append(f"the caption {sentence.text[:80]!r}: {parsed.note}")
        chances = rig.ears.present(impression, parsed.names, sentence.start, sentence.end).tolist()
        found += [
            Heard(name, chance, sentence.start, sentence.end)
            for name, chance in zip(parsed.names, chances, strict=True)
        ]
    return found, list(dict.fromkeys(said))


def guesses(heard: Sequence[Heard], tried: Sequence[str], alike: Callable[[str, str], float]) -> list[Guess]:
    """What was heard, by sound and most certain first.

    Names that mean the same are one, under the most certain name, and so are names that would give the same
    file name; what was tried before is left out.
    """
    by_name: dict[str, list[Heard]] = {}
    for one in sorted(heard, key=lambda one: -one.score):
        by_name.setdefault(" ".join(one.text.split()), []).append(one)
    found: dict[str, list[Heard]] = {}
    for name, stretches in by_name.items():
        if not any(_same(name, old, alike) for old in tried):
            known = next((old for old in found if _same(name, old, alike)), name)
            found.setdefault(known, []).extend(stretches)
    return [
        Guess(name, stretches[0].score, widened(tuple((one.start, one.end) for one in stretches), 0.0, 0.0))
        for name, stretches in found.items()
    ]


def _same(one: str, other: str, alike: Callable[[str, str], float]) -> bool:
    return slug(one) == slug(other) or alike(one, other) >= MEANS_THE_SAME


def _above(heard: Sequence[Heard], impression: "Impression", level_db: float) -> list[Heard]:
    """What is louder than a level, dBFS, at some moment while it is heard."""
    levels = impression.level_db
    return [one for one in heard if levels[impression.frames(one.start, one.end)].max() > level_db]


def _take(apart: Apart, chosen: Sequence[Guess], least: Sequence[float]) -> None:
    """Keep the guesses whose stems confirm them so surely, with the times at which they were heard."""
    told = [replace(guess, sounds_like=_sounds_like(guess.name, apart.rig)) for guess in chosen]
    spans = {guess.name: guess.spans for guess in chosen}
    for part in apart.take([guess.query for guess in told], least):
        apart.parts[apart.parts.index(part)] = replace(part, spans=spans[part.query.text])


def _sounds_like(name: str, rig: Rig) -> str:
    """How a sound sounds that the engine has no words for, if the chat knows it."""
    if rig.chat is None or knowledge.plainly(name) in knowledge.table():
        return ""
    sound = _knowledge().sound(name, rig.chat)
    return sound.sentence() if sound is not None and sound.by == "chat" else ""


@functools.cache
def _knowledge() -> knowledge.Knowledge:
    return knowledge.Knowledge(MiniLM())


def _said(apart: Apart, crowd: Sequence[Guess], limits: Limits) -> list[str]:
    said = []
    if crowd:
        names = ", ".join(guess.name for guess in crowd[:5]) + (", ..." if len(crowd) > 5 else "")
        full = len(apart.parts) == limits.tracks
        why = f"the limit is {limits.tracks} tracks" if full else "many surer ones turned out not to be there"
        count = "1 more sound was" if len(crowd) == 1 else f"{len(crowd)} more sounds were"
        said.append(f"{count} heard and not looked for, because {why}; in the residual: {names}")
    if not apart.parts:
        said.append("no sound was recognised; the residual is the whole recording")
    return said
