"""The name of a sound as an English clause: "dog barking" becomes "a dog barks".

The verbs are those that captions are read with, so that a sentence can be taken apart again. A name whose
verb is not known, or that has none, "is heard": that is honest, and still English. Nothing is guessed about
who made a sound, beyond what a name of one word always means ("bark").
"""

import functools
import json
import re
from importlib import resources
from typing import Any

from unweave.language.grammar import ing, is_gerund
from unweave.language.grammar import words as known


def clause(label: str) -> str:
    """The name of a sound as a clause, without capital and full stop.

    >>> [clause(label) for label in ("dog barking", "Rain", "people clapping", "theorbo", "car horns")]
    ['a dog barks', 'rain falls', 'people clap', 'a theorbo is heard', 'car horns are heard']
    """
    plain = re.sub(r"\s*\([^)]*\)", "", label)
    # The public vocabularies put other names of the same sound after a comma.
    names = [name for part in plain.split(",") if any(map(str.isalnum, name := _plain(part)))]
    told = next(filter(None, map(_told, names)), "")
    return told or _heard(names[0] if names else "something")


def _plain(name: str) -> str:
    """Without article, and in lower case but for what is written in capitals: "TV"."""
    words = name.replace("’", "'").split()
    text = " ".join(word if sum(map(str.isupper, word)) > 1 else word.lower() for word in words)
    return re.sub(r"^(?:the )?sounds? of ", "", re.sub(r"^(?:an?|the|some) ", "", text)).strip(" .;:!?")


def _told(name: str) -> str:
    """The clause of a name that the tables know; "" for any other."""
    words = name.split()
    whole: dict[str, str] = _table()["whole"]
    if name in whole:
        return whole[name]
    alone = _base().get(name, name)
    if alone in _alone():
        return f"{_alone()[alone]} {_conjugated(alone, plural=_is_plural([_alone()[alone]]))}"
    if words[0] == "playing" and _head(words[1:]) in _listed("instruments"):
        return _heard(" ".join(words[1:]))
    if _is_of_people(words):
        return _of_people(words)
    for place in range(1, len(words)):
        if words[place] in _base() and words[place - 1] not in _listed("prepositions"):
            who = words[:place]
            verb = _conjugated(_base()[words[place]], _is_plural(who))
            return " ".join([_noun(who), verb, *words[place + 1 :]])
    return ""


def _is_of_people(words: list[str]) -> bool:
    """Whether it says what somebody does: "playing the violin", and not "washing machine"."""
    verb = _base().get(words[0])
    if verb is None or words[-1] in _listed("made for"):
        return False
    return verb in _listed("people do by themselves") or (
        verb in _listed("people do to things") and len(words) > 1
    )


def _of_people(words: list[str]) -> str:
    verb, rest = _conjugated(_base()[words[0]], plural=False), words[1:]
    if len(rest) > 1 and rest[0] == "and" and rest[1] in _base():
        verb, rest = f"{verb} and {_conjugated(_base()[rest[1]], plural=False)}", rest[2:]
    if rest and rest[0] not in _listed("prepositions"):
        stop = next((i for i, word in enumerate(rest) if word in _listed("prepositions")), len(rest))
        rest = [_noun(rest[:stop]), *rest[stop:]]
    return " ".join(["someone", verb, *rest])


def _heard(name: str) -> str:
    """A clause for any name at all."""
    words = name.split()
    if not name.isascii() or name.isupper() or name == "something" or _has_participle(words):
        return f"{name} is heard"
    plural = _is_plural(words)
    if _head(words) in _listed("instruments") and not _listed("no instruments") & set(words):
        return f"{_noun(words)} {'play' if plural else 'plays'}"
    return f"{_noun(words)} {'are' if plural else 'is'} heard"


def _has_participle(words: list[str]) -> bool:
    """Whether it names something going on, "gun reloading" or "turning a screw", and not a "burning fuse"."""
    if words[-1] in _listed("made for"):
        return False
    describes = words[0] in _base() and len(words) > 1 and words[1] not in _listed("prepositions")
    return any(map(is_gerund, words[1:] if describes else words))


def _noun(words: list[str]) -> str:
    """With the article that it wants."""
    name = " ".join(words)
    head = _head(words)
    if _is_plural(words) or head in _listed("uncountable") or head == "someone" or head.endswith("ics"):
        return name
    if words[0] in _listed("prepositions"):  # "inside a plane"
        return name
    if re.match(r"(?:an?|the|some|one|two|three|several|many|my|his|her) |\d", name + " "):
        return name
    vowel = re.match(r"(?:[aeio]|hour|honest|u(?!k|ni|ti|s[ei]))", name) and not re.match("eu|one", name)
    return f"{'an' if vowel else 'a'} {name}"


def _is_plural(words: list[str]) -> bool:
    head = _head(" ".join(words).split())
    if head in _listed("plurals") or words[0] in ("people", "footsteps"):
        return True
    return (
        head.endswith("s")
        and not head.endswith(("ss", "us", "is", "'s", "ics"))
        and head not in _listed("singular with s")
    )


def _head(words: list[str]) -> str:
    """The noun that decides: the last one before a preposition."""
    stop = next((i for i, word in enumerate(words) if i and word in _listed("prepositions")), len(words))
    return words[stop - 1] if words else ""


def _conjugated(base: str, plural: bool) -> str:
    """The present tense.

    >>> _conjugated("cry", False), _conjugated("hiss", False), _conjugated("bark", True)
    ('cries', 'hisses', 'bark')
    """
    if plural:
        return base
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + ("es" if re.search(r"(?:s|sh|ch|x|z|o)$", base) and not base.endswith("oo") else "s")


@functools.cache
def _base() -> dict[str, str]:
    """Verbs by the form that names of sounds are made of: "chiming"."""
    return {ing(verb): verb for verb in known("verbs") | known("carriers") | _listed("more verbs")}


@functools.cache
def _alone() -> dict[str, str]:
    """Who makes a sound that is named by its verb alone."""
    return {verb: who for who, verbs in _table()["beasts"].items() for verb in verbs.split()}


@functools.cache
def _listed(kind: str) -> frozenset[str]:
    return frozenset(" ".join(_table()[kind]).split())


@functools.cache
def _table() -> dict[str, Any]:
    file = resources.files("unweave.listen") / "data" / "phrases.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
