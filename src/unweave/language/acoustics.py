"""Facts of sounds, in numbers and words: where in frequency, of what timbre, how they start, last and repeat.

The table is ``data/acoustics.json``, one entry a line. Every name of AudioSet, VGGSound, ESC-50 and MUSIC is
in it, and every label that was trained on; `evaluate/acoustics.py` checks it against recordings. An entry is
called as in the table of `knowledge.py`, or as in AudioSet. Its fields:

    hz            the band in Hz that holds the middle 90 % of the energy of an ordinary recording
    f0            the fundamental in Hz, null for a sound without pitch
    tone          one of `TONES`
    timbre        two to five words
    envelope      how it starts, lasts and ends
    rhythm        how it repeats
    seconds       shortest and longest of one event; a sound that goes on has 600 or more
    level         one of `LEVELS`, as it is usually met
    like          what it is most easily taken for
    names         further names of the same sound, where there are any
    why           in which way the recordings at hand are special, where they do not show what is stated
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from unweave.errors import ChatError
from unweave.language.chat import Chat, ask, fill

TONES = {"harmonic": "tones", "tonal": "ringing tones", "mixed": "tones and noise", "noisy": "noise"}
LEVELS = ("faint", "quiet", "moderate", "loud", "very loud")
LOWEST_HZ, HIGHEST_HZ = 20, 16_000  # of a stated range
BROAD = 24  # highest over lowest frequency of a sound that lies in no one place
PLACES = ((150, "very low"), (450, "low"), (1600, "midrange"), (5000, "high"), (math.inf, "very high"))


@dataclass(frozen=True)
class Sound:
    """How one sound sounds."""

    name: str  # whose facts these are: the entry of the table, or as asked where a chat answered
    range_hz: tuple[float, float]  # holds the middle 90 % of the energy
    fundamental_hz: tuple[float, float] | None  # None: no pitch
    tone: str  # a key of TONES
    timbre: str
    envelope: str
    rhythm: str
    seconds: tuple[float, float]  # shortest and longest of one event
    level: str  # one of LEVELS
    look_alikes: tuple[str, ...]  # what it is most easily taken for, the nearest first
    guessed: bool = False  # whether the facts are those of a sound with a similar name
    by: str = "table"  # who says so: "table", "nearest" or "chat"
    note: str = ""  # why, where a chat was asked and the table had to do

    def sentence(self) -> str:
        """What there is to hear of it in one line of words, fit for `Query.sounds_like`.

        Numbers stay out: the text encoder reads them as words, and the shipped separator was trained on
        descriptions without them.

        >>> stated("toilet flush").sentence()
        'rushing gurgling swirling broadband noise with sudden onset fading to hiss, single'
        """
        timbre, envelope = self.timbre.replace(",", ""), self.envelope.replace(",", "")
        return f"{timbre} {_place(self.range_hz)} {TONES[self.tone]} with {envelope}, {self.rhythm}"


def _place(range_hz: tuple[float, float]) -> str:
    """Where a range lies, in the words of the descriptions that were trained on.

    >>> _place((40, 100)), _place((300, 9000)), _place((2000, 7000))
    ('very low', 'broadband', 'high')
    """
    low, high = range_hz
    if high / low >= BROAD:
        return "broadband" if high > 5000 else "low to midrange"
    centre = math.sqrt(low * high)
    return next(word for limit, word in PLACES if centre < limit)


def stated(entry: str, by: str = "table", note: str = "") -> Sound:
    """What the table says of `entry`, a key of `facts`; by "nearest" it is a guess about another name."""
    found = facts()[entry]
    return Sound(
        name=entry,
        range_hz=tuple(found["hz"]),
        fundamental_hz=tuple(found["f0"]) if found["f0"] else None,
        tone=found["tone"],
        timbre=found["timbre"],
        envelope=found["envelope"],
        rhythm=found["rhythm"],
        seconds=tuple(found["seconds"]),
        level=found["level"],
        look_alikes=tuple(found["like"]),
        guessed=by == "nearest",
        by=by,
        note=note,
    )


def told(chat: Chat, name: str, prompt: str = "knowledge") -> Sound:
    """What a chat says of a sound.

    Args:
        chat: asked.
        name: of one sound.
        prompt: "knowledge", with five worked examples, or "knowledge-zero-shot", with none.

    Raises:
        ChatError: it does not answer, not what was asked, with limits in the wrong order, or that the name
            is of no sound.
    """
    found = ask(chat, fill(prompt, name), SCHEMA)
    if not found["is_sound"]:
        raise ChatError(f"the chat knows no sound named {name[:60]!r}")
    pitch = found["fundamental_hz"]
    for what in ("range_hz", "fundamental_hz", "seconds"):
        if found[what] and (len(found[what]) != 2 or not found[what][0] <= found[what][1]):
            raise ChatError(f"the chat gives {found[what]} as {what}, wanted the lower and the upper limit")
    return Sound(
        name=name,
        range_hz=tuple(found["range_hz"]),
        fundamental_hz=tuple(pitch) if pitch else None,
        seconds=tuple(found["seconds"]),
        look_alikes=tuple(found["look_alikes"]),
        **{key: found[key] for key in ("tone", "timbre", "envelope", "rhythm", "level")},
        by="chat",
    )


@functools.cache
def facts() -> Mapping[str, dict[str, Any]]:
    """The entries by name."""
    file = resources.files("unweave.language") / "data" / "acoustics.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


@functools.cache
def named() -> Mapping[str, str]:
    """Every name in this table, as `knowledge.plainly` writes it, and its entry.

    >>> named()["male speech, man speaking"]
    'male speech'
    """
    others = {name: entry for entry, found in facts().items() for name in found.get("names", ())}
    return others | {entry: entry for entry in facts()}


def _limits(least: float, most: float, fewest: int = 2) -> dict[str, Any]:
    number = {"type": "number", "minimum": least, "maximum": most}
    return {"type": "array", "items": number, "minItems": fewest, "maxItems": 2}


_WORDS = {"type": "string", "minLength": 2, "maxLength": 80}
_PROPERTIES: dict[str, Any] = {
    "is_sound": {"type": "boolean"},
    "range_hz": _limits(LOWEST_HZ, HIGHEST_HZ),
    "fundamental_hz": _limits(5, HIGHEST_HZ, fewest=0),  # none: no pitch
    "tone": {"enum": list(TONES)},
    "timbre": _WORDS,
    "envelope": _WORDS,
    "rhythm": _WORDS,
    "seconds": _limits(0, 3600),
    "level": {"enum": list(LEVELS)},
    "look_alikes": {"type": "array", "items": _WORDS, "maxItems": 4},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": list(_PROPERTIES),
    "additionalProperties": False,
}
