"""What to do with a recording, as numbers: a gain for every named sound, and one for all the rest.

This is what an instruction in words becomes (`language.instruct`), what is shown of it, and what is done:
output = sum of gain * sound + gain of the rest * everything that was not named.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from unweave.errors import QueryError, UsageError
from unweave.types import Query

QUIETEST, LOUDEST = -60.0, 24.0  # dB; below the first a sound is removed rather than lowered
MOST = 32  # sounds named in one plan
REMOVED = -math.inf  # the gain, in dB, of a sound that is taken out
KEPT = 0.0
GIVES_WAY = ("keep", "solo")  # to a change of level: "keep the dog but make it quieter"
Span = tuple[float, float]  # seconds from the start; the end may be inf, the end of the recording
# The form in which a chat writes a plan.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "is_instruction": {"type": "boolean"},
        "edits": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "sound": {"type": "string"},
                    "gain_db": {"type": ["number", "null"]},
                    "spans": {
                        "type": "array",
                        "items": {
                            "type": "array",
                            "items": {"type": ["number", "null"]},
                            "minItems": 2,
                            "maxItems": 2,
                        },
                    },
                },
                "required": ["sound", "gain_db", "spans"],
                "additionalProperties": False,
            },
        },
        "rest_db": {"type": ["number", "null"]},
    },
    "required": ["is_instruction", "edits", "rest_db"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Edit:
    """One sound and its gain. Outside of its spans the sound is a part of the rest."""

    name: str
    gain_db: float  # REMOVED, or QUIETEST..LOUDEST
    spans: tuple[Span, ...] = ()  # () = from start to end

    def __post_init__(self) -> None:
        Query(self.name)  # refuses an empty or an endless name
        if not self.name.isprintable():  # a terminal would act on it
            raise QueryError(
                f"{self.name!r} has control or invisible characters; name the sound without them"
            )
        _check_gain(f"{self.name!r}", self.gain_db)
        for start, end in self.spans:
            if not 0 <= start < end:
                raise QueryError(
                    f"{self.name!r} is to change from {start:g} to {end:g} s, which is no stretch of time; "
                    f"give the earlier time first, counted from the start of the recording"
                )


@dataclass(frozen=True)
class Plan:
    """All that is to be done. Edits of one sound are done in order: a later one wins where it applies.

    Raises:
        QueryError: it would change nothing or leave silence, a gain is out of bounds, or two edits ask for
            different gains of one sound at the same time.
    """

    edits: tuple[Edit, ...]
    rest_db: float = KEPT  # everything that no edit names
    by: str = "rules"  # who read the instruction: "rules" or "chat"
    note: str = ""  # why, where a chat was asked and the rules had to do

    def __post_init__(self) -> None:
        _check_gain("the rest", self.rest_db)
        if len(self.names) > MOST:
            raise QueryError(
                f"{len(self.names)} sounds are named, {MOST} are the most at once; do it in steps"
            )
        for one, other in combinations(self.edits, 2):
            _check_pair(one, other)
        gains = {edit.gain_db for edit in self.edits} | {self.rest_db}
        if gains == {KEPT}:
            name = self.edits[0].name if self.edits else "rain"
            raise QueryError(
                f"that changes nothing: whatever is not named stays as it is; to hear one sound alone say "
                f"'only the {name}', to lose it 'remove the {name}', to change it 'the {name} 6 dB louder'"
            )
        if gains == {REMOVED}:
            raise QueryError("that would leave silence; name a sound to keep, for example 'only the speech'")

    @property
    def names(self) -> tuple[str, ...]:
        """Every named sound once, in the order of the edits."""
        return tuple(dict.fromkeys(edit.name for edit in self.edits))


def same_sound(one: str, other: str) -> bool:
    """Whether two names mean one sound, as far as letters show.

    >>> same_sound("Dogs", "dog"), same_sound("dog", "frog")
    (True, False)
    """
    return _key(one) == _key(other)


def merged(edits: list[tuple[Edit, str]]) -> list[Edit]:
    """One edit for each sound and gain, what holds everywhere first; contradictions are left for the plan."""
    firm: list[Edit] = []
    for edit, action in edits:
        rivals = [
            (other, act)
            for other, act in edits
            if other is not edit and same_sound(other.name, edit.name) and other.spans == edit.spans
        ]
        if action in GIVES_WAY and any(act in ("up", "down", "gain") for _, act in rivals):
            continue
        twin = next(
            (
                i
                for i, one in enumerate(firm)
                if one.gain_db == edit.gain_db and same_sound(one.name, edit.name)
            ),
            None,
        )
        if twin is None:
            firm.append(edit)
        elif not (firm[twin].spans and edit.spans):
            firm[twin] = replace(firm[twin], spans=())
        else:
            spans = dict.fromkeys((*firm[twin].spans, *edit.spans))
            firm[twin] = replace(firm[twin], spans=tuple(spans))
    order = [next(i for i, one in enumerate(firm) if same_sound(one.name, edit.name)) for edit in firm]
    ranked = sorted(zip(order, firm, strict=True), key=lambda pair: (pair[0], bool(pair[1].spans)))
    # One sound has one name, the first that it was given.
    return [replace(edit, name=firm[first].name) for first, edit in ranked]


def amplitude(gain_db: float) -> float:
    """The factor that a gain stands for.

    >>> amplitude(REMOVED), amplitude(0.0), round(amplitude(-6.0), 3)
    (0.0, 1.0, 0.501)
    """
    return float(10 ** (gain_db / 20))


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it: a gain of null removes, a span that ends with null goes on to the end.

    >>> document(Plan((Edit("rain", REMOVED, ((5.0, math.inf),)),)))["edits"]
    [{'name': 'rain', 'gain_db': None, 'spans': [[5.0, None]]}]
    """
    return {
        "edits": [
            {
                "name": edit.name,
                "gain_db": _or_none(edit.gain_db),
                "spans": [[start, _or_none(end)] for start, end in edit.spans],
            }
            for edit in plan.edits
        ],
        "rest_db": _or_none(plan.rest_db),
        "by": plan.by,
        "note": plan.note,
    }


def from_document(found: Any) -> Plan:
    """The plan that `document` wrote, or that somebody wrote by hand; by, note and spans may be missing.

    Raises:
        UsageError: it is not of that form.
        QueryError: it is, and makes no sense.
    """
    try:
        if unknown := found.keys() - {"edits", "rest_db", "by", "note"}:
            raise UsageError(f"a plan has edits, rest_db, by and note, and no {min(unknown)!r}")
        edits = tuple(
            Edit(_text(one["name"]), _number(one["gain_db"], REMOVED), _spans(one.get("spans", [])))
            for one in found["edits"]
        )
        rest = _number(found["rest_db"], REMOVED)
        return Plan(edits, rest, _text(found.get("by", "rules")), _text(found.get("note", "")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"not a plan: {error!r}; wanted is what `unweave do --dry-run --json` prints, such as "
            f'{{"edits": [{{"name": "rain", "gain_db": -6, "spans": []}}], "rest_db": 0}}'
        ) from error


def read(path: Path) -> Plan:
    """The plan in a JSON file.

    Raises:
        UsageError: there is no such file, or no plan in it.
        QueryError: the plan makes no sense.
    """
    try:
        return from_document(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot read the plan {path}: {error}") from error


def lines(plan: Plan) -> list[tuple[str, str, str]]:
    """For people: (sound, what becomes of it, when).

    >>> lines(Plan((Edit("rain", -6.0, ((5.0, 65.5),)),)))
    [('rain', '-6 dB', '0:05 to 1:05.5'), ('the rest', 'kept', '')]
    """
    rows = [(edit.name, _said(edit.gain_db), _times(edit.spans)) for edit in plan.edits]
    return [*rows, ("the rest" if rows else "everything", _said(plan.rest_db), "")]


def _check_gain(what: str, gain_db: float) -> None:
    if gain_db != REMOVED and not QUIETEST <= gain_db <= LOUDEST:
        raise QueryError(
            f"{what} is to change by {gain_db:+g} dB; a gain is from {QUIETEST:g} to {LOUDEST:+g} dB, "
            f"and to lose a sound altogether say 'remove'"
        )


def _check_pair(one: Edit, other: Edit) -> None:
    """Two edits of one sound: everywhere and then in some stretch is fine, two things at a time are not."""
    if not same_sound(one.name, other.name):
        return
    if bool(one.spans) != bool(other.spans):
        if one.spans:
            raise QueryError(
                f"{one.name!r} has a time for {_said(one.gain_db)!r} and then {_said(other.gain_db)!r} for "
                f"all of it; put what holds everywhere first"
            )
        return
    meet = any(a < d and c < b for a, b in one.spans for c, d in other.spans)
    if meet or not one.spans:
        names = f"{one.name!r}" if one.name == other.name else f"{one.name!r} and {other.name!r}"
        raise QueryError(
            f"{names}: both {_said(one.gain_db)!r} and {_said(other.gain_db)!r} for one sound at one time; "
            f"leave one out, or give them different times"
        )


def _key(name: str) -> str:
    words = name.casefold().split()
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in words)


def _said(gain_db: float) -> str:
    if gain_db == REMOVED:
        return "removed"
    return f"{gain_db:+g} dB" if gain_db else "kept"


def _times(spans: Sequence[Span]) -> str:
    return ", ".join(
        f"{_clock(start)} to {'the end' if end == math.inf else _clock(end)}" for start, end in spans
    )


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{left:06.3f}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Any, missing: float) -> float:
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    if not value.isprintable():  # a terminal would act on it
        raise ValueError(f"{value!r} has control or invisible characters")
    return value


def _spans(value: Any) -> tuple[Span, ...]:
    return tuple((_number(start, 0.0), _number(end, math.inf)) for start, end in value)
