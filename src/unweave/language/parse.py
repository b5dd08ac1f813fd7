"""A caption to the sounds it names: the source parsing of OpenSep, by rules or by a language model.

Mahmud and Marculescu, EMNLP 2024, section 3.1: there a language model with five examples lists the sources.
Here rules do it offline, a chat does it better, and the rules take over wherever the chat fails.

A source is a noun and an -ing form, "dog barking", or a noun that is a sound, "thunder". Sounds that differ
are two sources even if one person makes both, "man laughing" and "man speaking"; states of one engine, or
"crying" and "whining", are one. A plural is one source, unless the caption itself tells two apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unweave.errors import ChatError, QueryError
from unweave.language.captions import Reading, plainly, readings
from unweave.language.chat import Chat, ask, fill
from unweave.language.grammar import alike, foreign, sounds, stem, verb_of, words

MOST = 12  # sources of one caption
LONGEST = 5000  # characters of a caption
LONGEST_NAME = 60  # characters of a source

SCHEMA = {
    "type": "object",
    "properties": {"sources": {"type": "array", "items": {"type": "string"}}},
    "required": ["sources"],
    "additionalProperties": False,
}
# Words that a source may have although the caption lacks them: "music" is "music playing".
_FREE = frozenset(["sound", "sounds", "noise", "noises", "playing", "sounding", "person", "people"])


@dataclass(frozen=True)
class Parsed:
    """The sounds that a caption names."""

    names: tuple[str, ...]  # 1 to `MOST`, in the order of the caption
    by: str  # "rules" or "chat"
    note: str = ""  # what went wrong or was left out; "" for nothing


def sources(caption: str) -> tuple[str, ...]:
    """The sounds that an English caption names, at most `MOST`, in its order; by rules alone.

    Raises:
        QueryError: the caption is longer than `LONGEST`, has no words, is not in English letters, or names
            nothing that sounds.

    >>> sources("A man laughs and talks while rain falls, followed by rock and roll music in the background")
    ('man laughing', 'man talking', 'rain falling', 'rock and roll music')
    """
    return _by_rules(caption)[:MOST]


def parse(caption: str, chat: Chat | None = None) -> Parsed:
    """The sounds that a caption names, by `chat` where there is one and it answers as asked, else by rules.

    Of a chat's sources those stay of whose words at least half are in the caption, whatever their
    inflection; the caption is data, so what it says to its reader changes nothing. A caption in another
    language cannot be compared, and its sources stay.

    Raises:
        QueryError: as `sources`; a caption in another language only where no chat reads it.
    """
    _check(caption)
    why = ""  # the chat did not help
    if chat is not None:
        try:
            answer = ask(chat, fill("sources", caption), SCHEMA)
        except ChatError as error:
            why = str(error)
        else:
            given = list(dict.fromkeys(_tidy(name) for name in answer["sources"]))
            kept = [name for name in given if name and supported(name, caption)]
            if kept:
                left = len(answer["sources"]) - len(kept[:MOST])
                told = f"{left} of the chat's {len(answer['sources'])} sources were left out" if left else ""
                return Parsed(tuple(kept[:MOST]), "chat", told)
            why = "the chat named no sound of the caption"
    try:
        found = _by_rules(caption)
    except QueryError as refused:
        raise QueryError(f"{refused}; the chat did not help: {why}" if why else str(refused)) from refused
    note = f"{why}; the rules read the caption instead" if why else ""
    if len(found) > MOST:
        more = f"only the first {MOST} of {len(found)} sources are kept"
        note = f"{note}; {more}" if note else more
    return Parsed(found[:MOST], "rules", note)


def _check(caption: str) -> None:
    if len(caption) > LONGEST:
        raise QueryError(
            f"a caption has at most {LONGEST} characters, this one has {len(caption)}; describe the "
            f"recording in a few sentences"
        )
    if not any(letter.isalpha() for letter in caption):
        raise QueryError(
            f"the caption {caption[:20]!r} has no words; say what sounds, "
            f"for example 'a dog barks while rain falls'"
        )


def _by_rules(caption: str) -> tuple[str, ...]:
    _check(caption)
    text = plainly(caption)
    letters = [letter for letter in text if letter.isalpha()]
    if 2 * sum(letter.isascii() for letter in letters) < len(letters):
        raise QueryError(
            f"the rules read English, not {caption[:20]!r}; write the caption in English, "
            f"or give a chat that reads it"
        )
    if word := foreign(text):
        raise QueryError(
            f"the rules read English, and {word!r} is none; write the caption in English, or give a chat "
            f"that reads it"
        )
    found = _merged(_joined(readings(text)))
    names = tuple(dict.fromkeys(name for name in map(_name, found) if 0 < len(name) <= LONGEST_NAME))
    if not names:
        raise QueryError(
            f"the caption {caption[:40]!r} names nothing that sounds; say what does, "
            f"for example 'a dog barks'"
        )
    return names


def _joined(found: Sequence[Reading]) -> list[Reading]:
    """Every reading with the subject, or the verb, that its neighbours lend it."""
    joined: list[Reading] = []
    waiting: list[Reading] = []  # nouns that may get the verb of a later one: "a man and a woman speak"
    subjects: list[str] = []
    before: Reading | None = None
    for one in found:
        if one.link == "with" and waiting and one.verb and not one.gerund:
            one = replace(one, noun=waiting[-1].noun)  # "a vehicle with a diesel engine accelerates"
            waiting = waiting[:-1]
        if one.link != "and":
            joined, waiting = [*joined, *_alone(waiting)], []
        if one.noun and one.verb:
            takes = [] if one.singular else waiting
            joined += [] if takes else _alone(waiting)
            joined += [replace(noun, verb=one.verb) for noun in takes] + [one]
            subjects, waiting = [noun.noun for noun in takes] + [one.owner or one.noun], []
        elif one.verb:
            joined, waiting = [*joined, *_alone(waiting)], []
            shared = subjects if _shares(one, before) else []
            joined += [replace(one, noun=subject) for subject in shared] or [one]
            subjects = shared
        elif sounds(one.noun.split()[-1]):
            joined, waiting, subjects = [*joined, *_alone(waiting), one], [], []
        elif one.link != "with" or one.noun.split()[-1] in words("instruments"):
            # After the object of a verb, "and" goes on with objects: "hits metal and glass".
            object_too = before is not None and before.more and one.link == "and"
            waiting.append(replace(one, more=object_too))
        before = one
    return joined + _alone(waiting)


def _shares(one: Reading, before: Reading | None) -> bool:
    """Whether a verb alone belongs to the subject before it."""
    if before is None or one.link not in ("and", "then"):
        return False
    return one.link == "then" or one.gerund == before.gerund


def _alone(waiting: Sequence[Reading]) -> list[Reading]:
    """Nouns that no verb took."""
    return [one for one in waiting if not one.more]


def _merged(found: Sequence[Reading]) -> list[Reading]:
    """Without those that an earlier one stands for already."""
    kept: list[Reading] = []
    for one in found:
        noun, sound = _parts(one)
        same = [other for other in kept if _stands_for(_parts(other), noun, sound)]
        if not same:
            kept.append(one)
        elif one.another and one.verb and same[0].noun == one.noun:
            kept.append(replace(one, noun=f"another {one.noun}"))
    return kept


def _parts(one: Reading) -> tuple[str, str]:
    """Who sounds, and how: "squeak" alone is nobody's "squeaking"."""
    if one.verb or not one.noun:
        return one.noun, one.verb
    *noun, last = one.noun.split()
    return (" ".join(noun), verb_of(last) or last) if sounds(last) else (one.noun, "")


def _stands_for(other: tuple[str, str], noun: str, sound: str) -> bool:
    if not noun:
        return other[1] == sound or (sound == "speech" and alike(other[1], sound))
    return other[0] == noun and alike(other[1], sound)


def _name(one: Reading) -> str:
    return _tidy(f"{one.noun} {one.verb}".replace("_", " "))


def _tidy(name: str) -> str:
    """One line of plain words in lower case; "" for what is too long to be a name."""
    plain = " ".join(re.sub(r"[^\w' &-]+", " ", name.lower()).split())
    return plain if len(plain) <= LONGEST_NAME else ""


def supported(name: str, caption: str) -> bool:
    """Whether half of the words of a sound are in the text, or are alike to one that is.

    True for a text in another language, where words tell nothing.
    """
    said = re.findall(r"[\w'-]+", plainly(caption).replace("_", " "))
    if not any(word.isascii() for word in said) or foreign(caption):
        return True
    stems = {stem(word) for word in said}
    content = [
        word
        for word in name.split()
        if word not in _FREE and word not in words("left out") | words("adjectives")
    ]
    backed = [
        word
        for word in map(stem, content)
        if word in stems or any(alike(word, other) for other in stems if verb_of(word))
    ]
    return bool(content) and 2 * len(backed) >= len(content)
