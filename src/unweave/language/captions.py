"""A caption in pieces, and what each piece says: who sounds, and how.

English captions of sounds are plain: noun, verb, and a connective. So a caption is cut at its connectives,
words that say nothing of the sound are left out, and the first verb that has a noun before it is the sound.
"""

import html
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from unweave.language.grammar import (
    ing,
    is_gerund,
    is_light,
    names_with_and,
    pairs,
    sounds,
    verb_of,
    words,
)

# How a piece hangs on the one before. "and" lends subject and verb, "then" lends its subject; "new" and
# "with" start anew, and a noun after "with" or "over" need not be a sound: "speaks over the phone".
_LINKS = (
    (
        "new",
        r"followed (?:\w+ly )?by|(?:accompanied|joined|punctuated|interrupted|preceded|overlapped) (?:in )?by"
        r"|(?:mixed|interspersed|concurrent|combined|paired) with|accompan(?:y|ies|ying)|along with|alongside"
        r"|together with|in addition to|plus|thereafter|caus(?:es|ing)",
    ),
    ("and", r"as well as|and|or"),
    ("then", r"then|before|after|afterwards?|while|whilst|whereas|as|when|until|but|although|though"),
    ("with", r"with|over|amid|amidst|during"),
)
_BREAK = re.compile(
    r"(?<![\w'-])(?:" + "|".join(f"(?P<{link}>{pattern})" for link, pattern in _LINKS) + r")(?![\w'-])"
    r"|(?P<mark>[.;:!?,&+/|])"
)
_HEDGE = re.compile(
    r"\b(?:what (?:sounds?|appears?|seems?) (?:like|to be)|(?:can|could) be heard|(?:is|are) (?:being )?heard"
    r"|(?:we|you|i) (?:can )?hear|sounds? like|(?:sounds?|noises?) of|in the (?:\w+ )?(?:back|fore)ground"
    r"|in the (?:\w+ )?(?:distance|middle|vicinity|recording|audio|clip)|from (?:afar|a distance)"
    r"|as well\b(?! as)|at the (?:same time|\w*end|beginning)|towards the end|in the end"
    r"|(?:is |are |was |were |being )+(?:turned|switched) (?:on|off)"
    r"|for a (?:moment|while|bit)|such as|as if|back and forth|up and down|over and over|again and again"
    r"|on and off|in and out|here and there|(?:more|louder|faster|closer) and \w+|one after another"
    r"|each other|over time|(?:young )?adult (?=(?:fe)?males?\b|(?:wo)?m[ae]n\b))\b"
)
_CONVERSING = re.compile(
    r"\b(?:carr(?:y|ies|ying) on|ha(?:ve|s|ving)|holds?|holding) an? (?:\w+ )?conversation\b"
)
_MARKUP = re.compile(r"<[^<>]{0,200}>|https?://\S+|\x1b\[[\d;]*[A-Za-z]?")
_WORD = re.compile(r"[a-z0-9][a-z0-9_'-]*")
_NO_ADVERB = frozenset(["fly", "family", "butterfly", "dragonfly", "firefly", "belly", "jelly", "assembly"])
_NEGATIONS = frozenset(
    ["no", "not", "without", "nothing", "none", "neither", "nor", "never", "silence", "silent"]
)
_MAKING = frozenset(ing(verb) for verb in words("makers"))
_CARRYING = frozenset(ing(verb) for verb in words("carriers"))
_WEAK = frozenset(ing(verb) for verb in words("weak"))


@dataclass(frozen=True)
class Reading:
    """What one piece says."""

    link: str  # to the piece before: "and", "then", "with", "new"
    noun: str = ""
    verb: str = ""  # in its -ing form
    gerund: bool = False  # the caption has the -ing form itself: "a dog barking"
    singular: bool = False  # the verb is that of one subject: "speaks"
    more: bool = False  # words follow the verb
    another: bool = False  # the caption says that it is not the one named before
    owner: str = ""  # whose part the noun is: "a truck blows its horn"


def plainly(caption: str) -> str:
    """Lower case, no accents, no markup, no addresses, no hedges; names with "and" made one word.

    >>> plainly("What sounds like <b>Rock and Roll</b>")
    'rock_and_roll'
    """
    letters = unicodedata.normalize("NFKD", _MARKUP.sub(" ", html.unescape(caption)).replace("’", "'"))
    text = "".join(letter for letter in letters if not unicodedata.combining(letter)).lower()
    text = _CONVERSING.sub("talk", " ".join(text.split()))
    for name in names_with_and():
        text = text.replace(name, name.replace(" ", "_"))
    return " ".join(_HEDGE.sub(" ", text).split())


def readings(text: str) -> list[Reading]:
    """What each piece of a text says that `plainly` wrote; pieces that say nothing are left out."""
    found: list[Reading] = []
    for link, piece in _pieces(text):
        before = found[-1] if found else Reading("new")
        # Only the piece right before lends a subject, and a piece that is no more than a noun has none.
        lent = bool(before.verb) and link in ("and", "then") and piece[0] != "something"
        waits = bool(before.noun) and not before.verb and not sounds(before.noun.split()[-1])
        reading = _read(link, piece, lent, link == "and" and waits)
        if reading.noun or reading.verb:
            found.append(reading)
    return found


def _pieces(text: str) -> list[tuple[str, list[str]]]:
    """The words between connectives, and the connective before them; of several in a row the last counts."""
    found, link, start = [], "new", 0
    for match in [*_BREAK.finditer(text), None]:
        piece = _WORD.findall(text[start : match.start() if match else len(text)])
        # "a vehicle accelerates squealing tires": after "a", what ends in s is a verb.
        turn = next((place for place in range(2, len(piece)) if _turns(piece, place)), len(piece))
        found += [(link, piece[:turn])] if piece else []
        found += [("then", piece[turn:])] if piece[turn:] else []
        if match:
            group = match.lastgroup or ""
            link = ("and" if match[0] in ",&+/" else "new") if group == "mark" else group
            start = match.end()
    return found


def _turns(piece: Sequence[str], place: int) -> bool:
    verb = piece[place - 1]
    one = piece[0] in ("a", "an", "another") and "of" not in piece[:place]
    return (
        one and is_gerund(piece[place]) and verb.endswith("s") and bool(verb_of(verb)) and not is_light(verb)
    )


def _read(link: str, piece: list[str], lent: bool = False, joint: bool = False) -> Reading:
    """One piece.

    Args:
        link: to the piece before.
        piece: its words.
        lent: a verb alone would find a subject before it.
        joint: the piece before is a noun that waits for the verb of this one.
    """
    if gone := [place for place, word in enumerate(piece) if word in _NEGATIONS]:
        piece = piece[: gone[0]]
    another = "another" in piece
    said = _telling(piece)
    counted = _counted(said)
    if counted != said:
        piece, said, lent = counted, counted, False
    for word in ("of", "from"):
        if word in said and (turned := _turned(link, said, said.index(word))):
            return turned
    named = bool(piece) and (piece[0] in words("determiners") or piece[0] in words("adjectives"))
    head, rest = _head(said)
    head, rest = (head, rest) if head else (rest, [])
    if head and is_gerund(head[0]):
        return _from_gerund("new" if named and len(head) == 1 else link, head, lent)
    front = takewhile(lambda word: word not in words("prepositions"), piece)
    one = not joint and any(word in ("a", "an") for word in front)
    acts = _acts(piece)
    place = _verb_place(head, acts, one)
    if head and lent and not named and verb_of(head[0]) and (place is None or head[0] in acts):
        place = 0
    if place is None:
        later = _verb_place(rest, acts, one)
        if later:  # "a man on a microphone speaks"
            return _with_verb(link, head, rest[later], rest[later + 1 :], another)
        return _without_verb(link, head, piece[:1] in (["a"], ["an"], ["the"], ["another"]), another)
    tail, verb = head[place + 1 :], head[place]
    if verb_of(verb) in _MAKING and not tail and rest:
        tail = _head(rest)[0]  # "lets out a scream"
    return _with_verb(link, head[:place], verb, tail, another)


def _counted(said: list[str]) -> list[str]:
    """What follows the last amount: "a group of people", "a series of beeps"."""
    while "of" in said and set(said[: said.index("of")][-1:]) <= words("groups"):
        said = said[said.index("of") + 1 :]
    return said


def _telling(piece: Sequence[str]) -> list[str]:
    """The words that say who sounds and how, and prepositions."""
    called, out = pairs("called"), words("left out") | words("adjectives")
    found = [
        called.get(word, word).removesuffix("'s").removesuffix("s'") for word in piece if word not in out
    ]
    found = [word for word in found if not word.endswith("ly") or word in _NO_ADVERB]
    # "to" before a verb is no preposition: "begins to bark".
    kept = [
        word
        for word, after in pairwise([*found, ""])
        if word != "to" or not verb_of(after) or is_gerund(after)
    ]
    # What begins to rumble rumbles; what begins is there.
    return [word for word in kept if not is_light(word)]


def _head(said: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first preposition, and all other words after it."""
    stops = words("prepositions")
    first = next((place for place, word in enumerate(said) if word in stops), len(said))
    return list(said[:first]), [word for word in said[first:] if word not in stops]


def _verb_place(said: Sequence[str], acts: Collection[str] = (), one: bool = False) -> int | None:
    """Where the verb is, with a noun before it; None where there is none.

    Args:
        said: words before, or after, a preposition.
        acts: words that are verbs for sure.
        one: the noun is one thing, so that its verb has an ending: "an electronic beep" has no verb.
    """
    for place in range(1, len(said)):
        if not verb_of(said[place]):
            continue
        # "train whistle blows": of words that may be noun or verb, the last is the verb.
        while place + 1 < len(said) and said[place] not in acts and _finite(said[place + 1]):
            if one and said[place].endswith("s") and not said[place + 1].endswith("s"):
                break  # "a door slams shut"
            place += 1
        ending = said[place].endswith(("s", "ed", "ing")) or said[place] in pairs("irregular")
        plain = not ending and said[place] not in acts
        return None if one and plain and place == len(said) - 1 else place
    return None


def _acts(piece: Sequence[str]) -> set[str]:
    """Words that, if they are known verbs, are verbs here: "hits a bump", "starts to cry"."""
    before = {word for word, after in pairwise(piece) if after in ("a", "an", "the", "its", "their")}
    return before | {after for word, after in pairwise(piece) if word == "to"}


def _finite(word: str) -> bool:
    return bool(verb_of(word)) and not is_gerund(word)


def _turned(link: str, said: list[str], place: int) -> Reading | None:
    """What "clanging of metal grates" or "chirping from birds" says; None for no more than a place."""
    before, after = said[:place], said[place + 1 :]
    if said[place] == "from" and not (len(before) == 1 and after and verb_of(before[0])):
        return None  # "water from a tap", "birds chirp from the trees"
    if not after:
        return None
    if not sounds(before[-1]):
        later = _verb_place(after)
        return _with_verb(link, before, after[later], after[later + 1 :], False) if later else None
    noun = [word for word in _head(after)[0] if not is_gerund(word)]
    if verb := verb_of(before[-1]):
        return Reading(link, " ".join(noun), verb, gerund=True)
    return _without_verb(link, [*noun, before[-1]], False, False)


def _from_gerund(link: str, head: list[str], lent: bool) -> Reading:
    """What "whirring motor", "frying food sizzles", "using a drill" or "rustling" says."""
    first, others = head[0], head[1:]
    verbs = [place for place, word in enumerate(others) if place and _finite(word)]
    if verbs:
        noun, verb = others[: verbs[-1]], verb_of(others[verbs[-1]])
        return Reading(link, " ".join(noun), first if verb in _WEAK else verb, gerund=verb in _WEAK)
    if lent and (first in _CARRYING or first in _MAKING):
        return _with_verb(link, [], first, others, False)
    noun = [word for word in others if not is_gerund(word)]
    if noun and (noun[-1] in ("sound", "noise", "sounds", "noises") or (len(noun) == 1 and verb_of(noun[0]))):
        noun = noun[:-1]  # "squeaking noise", "ringing beep"
    return Reading(link, " ".join(noun), first, gerund=True)


def _with_verb(link: str, noun: list[str], verb: str, tail: list[str], another: bool) -> Reading:
    gerund, doing, owner = is_gerund(verb), verb_of(verb), ""
    singular = not gerund and verb.endswith("s") and not verb.endswith("ss")
    if doing in _MAKING:
        doing = _made(doing, [word for word in tail if word not in ("sound", "sounds")])
    elif doing in _CARRYING:
        doing = " ".join([doing, *tail[:2]])  # "using drill": without it nobody knows the sound
    elif part := [word for word in tail if word in words("parts")]:
        noun, owner = part, " ".join(noun)  # "squeals tires": the tires are what squeals
    noun = [word for word in noun if word not in words("pronouns")]
    return Reading(link, " ".join(noun), doing, gerund, singular, bool(tail), another, owner)


def _made(making: str, what: Sequence[str]) -> str:
    """The verb in "makes a spraying sound" or "gives applause"; "" for "noise is made"."""
    if not what:
        return ""
    for word in what:
        if is_gerund(word):
            return word
    noun = pairs("made").get(what[-1])
    return ing(noun) if noun else verb_of(what[-1]) or f"{making} {what[-1]}"


def _without_verb(link: str, head: list[str], one: bool, another: bool) -> Reading:
    """A noun, or a verb nobody knows: "a frog ribbits"."""
    head = [word for word in head if word not in words("pronouns")]
    if not head:
        return Reading(link)
    last = head[-1]
    if len(head) > 1 and last in ("voice", "voices"):
        return Reading(link, " ".join(head[:-1]), "speaking", gerund=True)
    third = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    if one and len(head) > 1 and third and not sounds(last) and not head[-2].endswith("s"):
        return Reading(link, " ".join(head[:-1]), ing(last[:-1]), singular=True)
    return Reading(link, " ".join(head), another=another)
