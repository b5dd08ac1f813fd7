"""An instruction in plain words, "take out the traffic, birds 6 dB quieter", made into a plan of gains.

The instruction parsing of HSM-TSS (arXiv 2505.21025, section III-F) has a language model name one task,
extraction or removal, and what it is about. Here there are gains, times and several sounds in a sentence, and
it works with no language model: by rules, which refuse what they do not understand rather than guess. A chat
reads more freely; whatever goes wrong with it, the rules take over and the plan says so.
"""

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from unweave.errors import ChatError, QueryError
from unweave.language.amounts import Amount, When
from unweave.language.chat import Chat, ask, fill
from unweave.language.clauses import REST, Clause, clauses
from unweave.language.grammar import foreign
from unweave.language.parse import supported
from unweave.language.phrases import is_question, plain
from unweave.language.plans import GIVES_WAY, KEPT, REMOVED, SCHEMA, Edit, Plan, merged, same_sound

LONGEST = 2000  # characters of an instruction
REMEDY = (
    "say what to do with which sound, in English, for example 'remove the rain', 'only the speech', "
    "'birds 6 dB quieter', or let a language model read it with --chat"
)
OPPOSITE = {"keep": REMOVED, "solo": REMOVED}  # of what is excepted; of all other actions it is KEPT
NEGATED = {
    "remove": "keep",
    "up": "keep",
    "down": "keep",
    "touch": "keep",
    "keep": "remove",
    "want": "remove",
}


def plan(text: str, chat: Chat | None = None) -> Plan:
    """What `text` asks to be done.

    Args:
        text: an instruction; it is data for the chat, whatever it says.
        chat: reads it; None: the rules do, as they do where the chat fails, gives a plan without sense, or
            names no sound of an instruction that the rules can read. If only some of its sounds are not in
            an English instruction, the note names them.

    Raises:
        QueryError: it is empty, too long, a question, no instruction, contradicts itself, would change
            nothing, or asks for a gain out of bounds.

    >>> plan("take out the traffic, birds 6 dB quieter").edits
    (Edit(name='traffic', gain_db=-inf, spans=()), Edit(name='birds', gain_db=-6.0, spans=()))
    """
    if not text.strip():
        raise QueryError(f"the instruction is empty; {REMEDY}")
    if len(text) > LONGEST:
        raise QueryError(
            f"an instruction has at most {LONGEST} characters, this one has {len(text)}; do it in steps, or "
            f"write a plan and run it with --plan"
        )
    if is_question(plain(text)[0]):
        raise QueryError(
            f"{_shown(text)} is a question; say what to do instead, for example 'remove the rain'; what is "
            f"in a recording tells `unweave listen`"
        )
    if chat is None:
        return by_rules(text)
    try:
        answer = ask(chat, fill("instruction", text), SCHEMA)
        found = _answered(answer) if answer["is_instruction"] else None
    except (ChatError, QueryError) as error:
        try:
            return replace(by_rules(text), note=f"read by the rules, because of the chat: {error}")
        except QueryError as refused:
            raise QueryError(f"{refused}; the chat did not help: {error}") from error
    if found is None:
        raise QueryError(f"the chat finds no instruction in {_shown(text)}; {REMEDY}")
    return _compared(found, text)


def by_rules(text: str) -> Plan:
    """What `text`, which is no question, asks for as far as the rules understand it.

    Raises:
        QueryError: as for `plan`, or some part of it is not understood.
    """
    if not _is_latin(text):
        raise QueryError(f"the rules read English only, not {_shown(text)}; {REMEDY}")
    found, amounts, times = clauses(text)
    reading = _Reading(text)
    for clause in found:
        reading.take(clause, amounts, times)
    return reading.plan()


@dataclass
class _Item:
    """A sound, or the rest, as one group names it."""

    name: str  # REST: everything that has no name
    excepted: bool
    amount: Amount | None
    when: When | None
    again: bool = False  # "it": what is said now of the sound goes before what was said


@dataclass
class _Group:
    """Sounds that share an action: "lower the birds and the wind by 3 dB"."""

    action: str
    items: list[_Item]
    amount: Amount | None = None
    when: When | None = None


@dataclass
class _Reading:
    """What was understood so far, clause by clause."""

    text: str
    groups: list[_Group] = field(default_factory=list)
    pending: list[_Item] = field(
        default_factory=list
    )  # waits for its action: "make the birds" and the wind ...
    leading: When | None = None  # of the sentence: "in the first 5 seconds, ..."
    is_open: bool = False  # whether a bare name joins the last group

    def take(self, clause: Clause, amounts: list[Amount], times: list[When]) -> None:
        """The next clause."""
        if clause.first:
            self._settle()
            self.leading, self.is_open = None, False
        amount = None if clause.amount is None else amounts[clause.amount]
        when = None if clause.when is None else times[clause.when]
        items = [
            _Item(name, excepted, None if a is None else amounts[a], None if w is None else times[w])
            for name, excepted, a, w in clause.items
        ]
        if clause.outside and items and items[-1].when:
            items[-1].when = replace(items[-1].when, outside=True)
        elif clause.outside and when:
            when = replace(when, outside=True)
        if clause.but and self.pending:  # "all birds but the owl louder"
            for item in items:
                item.excepted = True
        action = self._action(clause, amount or next((item.amount for item in items if item.amount), None))
        if clause.nothing_else:
            self._nothing_else()
        elif not items and not self.pending:
            self._alone(clause, action, amount, when)
        elif action in ("", "set"):
            self._bare(action, items, when)
        else:
            self._complete(clause, _Group(action, items, amount, when or self.leading))

    def plan(self) -> Plan:
        """All of it as gains."""
        self._settle()
        edits: list[tuple[Edit, str]] = []
        rests: list[float] = []
        for group in self.groups:
            if group.action == "solo":
                rests.append(REMOVED)
            for item in group.items:
                when = item.when or group.when
                gain, action = _gain(group, item)
                if item.name == REST:
                    if when:
                        raise QueryError(
                            "a time goes with a named sound, not with everything; name the sound"
                        )
                    rests.append(gain)
                    continue
                spans = when.spans if when else ()
                if item.again:
                    edits = [
                        (e, a) for e, a in edits if (e.name, e.spans) != (item.name, spans) or a == "remove"
                    ]
                edits += _edits(item.name, gain, action, when)
        if not edits and not rests:
            raise self._refusal()
        if len(set(rests)) > 1:
            raise QueryError(
                f"everything else is to have two different gains in {_shown(self.text)}; leave one out"
            )
        return Plan(tuple(merged(edits)), rests[0] if rests else KEPT)

    def _action(self, clause: Clause, amount: Amount | None) -> str:
        """ "remove", "keep", "solo", "up", "down", "gain", "set" (says not yet what), or "" for none."""
        action = clause.action
        if clause.negated:
            if action == "":
                return "not"
            if action not in NEGATED:
                raise self._refusal()
            return NEGATED[action]
        if action == "touch":
            raise self._refusal()
        if action == "keep" and amount is not None and amount.gain_db is not None:
            return "gain"  # "keep the piano at -6 dB"
        if action == "remove" and amount is not None:
            return "down"  # "cut the bass by 3 dB"
        if action == "want":
            return "solo"
        if action in ("", "set") and amount is not None and amount.gain_db is not None:
            return "gain"
        return action

    def _nothing_else(self) -> None:
        if self.pending:
            self.groups.append(_Group("keep", self.pending))
            self.pending = []
        if not self.groups:
            raise self._refusal()
        keeps = self.groups[-1].action in GIVES_WAY
        self.groups.append(_Group("remove" if keeps else "keep", [_Item(REST, False, None, None)]))

    def _alone(self, clause: Clause, action: str, amount: Amount | None, when: When | None) -> None:
        """A clause that names no sound: only times belong to something, what was said or what is to come."""
        if not when or action not in ("", "solo") or amount or clause.but:
            raise self._refusal()
        if clause.first:
            self.leading = when
        elif self.groups:
            for item in self.groups[-1].items:
                if item.when and when.outside:  # an exception from a time
                    raise self._refusal()
                item.when = item.when or when
        else:
            raise self._refusal()

    def _bare(self, action: str, items: list[_Item], when: When | None) -> None:
        """Names without an action: more of the last group, or of the one to come."""
        if action == "" and self.is_open and not self.pending:
            self._join(self.groups[-1], items)
            return
        if action == "set" and self.pending:
            raise self._refusal()
        for item in items:
            item.when = item.when or when
            item.excepted = item.excepted or (bool(self.pending) and self.pending[-1].excepted)
        self.pending += items

    def _complete(self, clause: Clause, group: _Group) -> None:
        """Names with an action; with "not" alone, the opposite of the last one."""
        items = group.items
        if group.action == "not":
            if not self.groups or self.pending:
                raise self._refusal()
            for item in items:
                item.excepted = not item.excepted
            self._join(self.groups[-1], items)
            return
        if self.pending:
            if not clause.is_suffix:
                raise self._refusal()
            waiting, self.pending = self.pending, []
            for item in items:
                item.excepted = item.excepted or waiting[-1].excepted
            items = waiting + items
        group.items = []
        self._join(group, items)
        self.groups.append(group)
        self.is_open = True

    def _join(self, group: _Group, items: list[_Item]) -> None:
        """Put `items` into the group: an amount or time after the last name is for all before it, too."""
        excepted = bool(group.items) and group.items[-1].excepted
        for item in self._resolved(items):
            item.excepted = item.excepted or excepted
            group.items.append(item)
        last = group.items[-1]
        for i, item in enumerate(group.items):
            if item.amount is None:
                before = next((other.amount for other in group.items[:i][::-1] if other.amount), None)
                item.amount = before or last.amount
            item.when = item.when or last.when

    def _resolved(self, items: Iterable[_Item]) -> list[_Item]:
        """`items` with what "it" and "them" stand for."""
        found: list[_Item] = []
        for item in items:
            if item.name != "it":
                found.append(item)
                continue
            named = [other for other in (self.groups[-1].items if self.groups else []) if other.name != REST]
            if not named:
                raise QueryError(f"what is 'it' in {_shown(self.text)}? name the sound; {REMEDY}")
            found += [replace(item, name=other.name, again=True) for other in named if not other.excepted]
        return found

    def _settle(self) -> None:
        """At the end of a sentence: "everything except the rain" needs no verb, all else does."""
        if not self.pending:
            return
        if any(item.amount for item in self.pending):
            raise QueryError(
                f"louder or quieter? {_shown(self.text)} has an amount and no direction; say which"
            )
        if self.pending[0].name != REST or len(self.pending) < 2:
            raise self._refusal()
        self.groups.append(_Group("keep", self.pending))
        self.pending = []

    def _refusal(self) -> QueryError:
        return QueryError(f"no instruction that the rules understand: {_shown(self.text)}; {REMEDY}")


def _edits(name: str, gain: float, action: str, when: When | None) -> list[tuple[Edit, str]]:
    """The edits, each with its action, of one sound: two where it is one thing at times and another else."""
    if when and when.outside:
        back = REMOVED if action in GIVES_WAY else KEPT
        return [(Edit(name, gain), action), (Edit(name, back, when.spans), "within")]
    if when and when.only and action == "keep":
        return [(Edit(name, REMOVED), "remove"), (Edit(name, KEPT, when.spans), "within")]
    return [(Edit(name, gain, when.spans if when else ()), action)]


def _gain(group: _Group, item: _Item) -> tuple[float, str]:
    """The gain of an item in dB, and the action it comes from."""
    if item.excepted:
        gain = OPPOSITE.get(group.action, KEPT)
        return gain, "keep" if gain == KEPT else "remove"
    if group.action in ("up", "down"):
        amount = item.amount or group.amount or Amount()
        return amount.towards(1 if group.action == "up" else -1), group.action
    if group.action == "gain":
        found = item.amount or group.amount
        return (found.gain_db if found and found.gain_db is not None else KEPT), "gain"
    return (REMOVED if group.action == "remove" else KEPT), group.action


def _answered(answer: dict[str, Any]) -> Plan:
    """The plan in an answer that fits SCHEMA."""
    edits = [
        (
            Edit(
                " ".join(one["sound"].split()),
                REMOVED if one["gain_db"] is None else float(one["gain_db"]),
                tuple(
                    (float(start or 0), math.inf if end is None else float(end))
                    for start, end in one["spans"]
                ),
            ),
            "",
        )
        for one in answer["edits"]
    ]
    rest = REMOVED if answer["rest_db"] is None else float(answer["rest_db"])
    return Plan(tuple(merged(edits)), rest, by="chat")


def _compared(found: Plan, text: str) -> Plan:
    """A chat's plan, unless it is about other sounds than an instruction that the rules can read."""
    if not _is_latin(text) or foreign(text):
        return found  # its sounds have other names there
    try:
        ours = by_rules(text)
    except QueryError:
        ours = None
    known = ours.names if ours else ()
    strange = [
        name
        for name in found.names
        if not supported(name, text) and not any(same_sound(name, other) for other in known)
    ]
    if ours and known and len(strange) == len(found.names):
        return replace(ours, note="read by the rules, because the chat named no sound of the instruction")
    if not strange:
        return found
    return replace(
        found, note=f"the chat named what the instruction does not: {', '.join(map(repr, strange))}"
    )


def _is_latin(text: str) -> bool:
    return not any(letter.isalpha() and "LATIN" not in unicodedata.name(letter, "") for letter in text)


def _shown(text: str) -> str:
    """The beginning of `text`, on one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")
