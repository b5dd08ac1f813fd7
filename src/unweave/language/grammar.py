"""Enough English to read captions of sounds: verbs and their forms, words that say nothing of a sound.

The words are in ``data/grammar.json``. They are no dictionary: a verb that the table lacks is still known by
its ending in -ing, and a noun needs no table at all.
"""

import functools
import json
import re
import unicodedata
from importlib import resources

_ENDS_TWICE = re.compile(r"(?:^|[^aeiou])(?:qu)?[^aeiou]*[aeiou][bdgmnprtvz]$")  # run, clap, but not beat
_VOWELS = re.compile(r"[aeiouy]+")


@functools.cache
def words(kind: str) -> frozenset[str]:
    """The words of one list of the table, for example "prepositions"."""
    return frozenset(" ".join(_table()[kind]).split())


@functools.cache
def pairs(kind: str) -> dict[str, str]:
    """A list of the table whose words are written ``word:meaning``."""
    return dict(pair.split(":") for pair in words(kind))


@functools.cache
def names_with_and() -> tuple[str, ...]:
    """Names of one thing that have an "and" in them, "rock and roll"."""
    return tuple(_table()["in one name"])


def ing(verb: str) -> str:
    """The -ing form of a verb in its plain form.

    >>> [ing(verb) for verb in ("bark", "run", "cry", "sizzle", "gallop", "die", "whir")]
    ['barking', 'running', 'crying', 'sizzling', 'galloping', 'dying', 'whirring']
    """
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def verb_of(word: str) -> str:
    """The -ing form of the verb that a word is a form of; "" for no verb that is known.

    >>> verb_of("barks"), verb_of("blown"), verb_of("ululating"), verb_of("something"), verb_of("dog")
    ('barking', 'blowing', 'ululating', '', '')
    """
    found = _forms().get(word, "")
    return word if not found and is_gerund(word) else found


def is_gerund(word: str) -> bool:
    """Whether a word is an -ing form."""
    return len(word) > 4 and word.endswith("ing") and word not in words("no gerunds")


def is_light(word: str) -> bool:
    """Whether it is a form of a verb that only says that something goes on: "begins", "occurs"."""
    return word in _light()


def sounds(word: str) -> bool:
    """Whether a noun names a sound by itself: "music", "beeps", "clang"."""
    return word in words("sounds") or bool(verb_of(word))


def alike(one: str, other: str) -> bool:
    """Whether two -ing forms of one subject are one sound: "crying" and "whining", "idling" and "revving"."""
    return one == other or bool(_groups().get(one, frozenset()) & _groups().get(other, frozenset()))


def stem(word: str) -> str:
    """A word without its inflection, for telling whether two are the same.

    >>> stem("dogs") == stem("dog"), stem("barking") == stem("barked"), stem("babies") == stem("baby")
    (True, True, True)
    """
    if verb := _forms().get(word):
        return verb
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("ches", "shes", "xes", "sses")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    return _PLURALS.get(word, word)


_PLURALS = {"men": "man", "women": "woman", "children": "child", "people": "person", "geese": "goose"}


def foreign(text: str) -> str:
    """The first word of a text that shows it to be in another language, mostly an article; "" for none.

    The table knows a few words of German, French, Spanish and Italian; a text without any of them passes.

    >>> foreign("mute le chien"), foreign("remove the lo-fi music")
    ('le', '')
    """
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return next((word for word in re.findall(r"[\w'-]+", plain) if word in words("foreign")), "")


@functools.cache
def _table() -> dict[str, list[str]]:
    file = resources.files("unweave.language") / "data" / "grammar.json"
    found: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _doubled(verb: str) -> str:
    """With its last letter twice where endings want that: one syllable, one vowel, one consonant."""
    single = len(_VOWELS.findall(verb.split("-")[-1].replace("qu", "q"))) == 1
    return verb + verb[-1] if single and _ENDS_TWICE.search(verb) else verb


def _inflected(verb: str) -> tuple[str, str, str, str]:
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        third, past = verb[:-1] + "ies", verb[:-1] + "ied"
    else:
        third = verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")
        past = verb + "d" if verb.endswith("e") else _doubled(verb) + "ed"
    return verb, third, past, ing(verb)


@functools.cache
def _forms() -> dict[str, str]:
    """Every form of every known verb, and its -ing form."""
    known = words("verbs") | words("makers") | words("carriers")
    found = {form: ing(verb) for verb in sorted(known) for form in _inflected(verb)}
    return found | {form: ing(verb) for form, verb in pairs("irregular").items()}


@functools.cache
def _light() -> frozenset[str]:
    found = {form for verb in words("light") for form in _inflected(verb)}
    return frozenset(found | {form for form, verb in pairs("irregular").items() if verb in words("light")})


@functools.cache
def _groups() -> dict[str, frozenset[int]]:
    """Of every -ing form, or noun, the groups of like sounds that it is in."""
    found: dict[str, set[int]] = {}
    for number, line in enumerate(_table()["alike"]):
        for word in line.split():
            found.setdefault(_forms().get(word, word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}
