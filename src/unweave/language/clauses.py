"""An instruction cut into clauses: the sounds that each names, and its verb."""

import re
from dataclasses import dataclass
from itertools import takewhile

from unweave.errors import QueryError
from unweave.language import phrases
from unweave.language.amounts import Amount, When, take_amounts, take_times
from unweave.language.grammar import foreign, is_gerund

REST = ""  # the name of everything that has none
LONGEST_NAME = 12  # words
HINT = "put the name of a sound into quotes if it is one"
Named = tuple[str, bool, int | None, int | None]  # name, whether excepted, index of its amount, of its times


@dataclass(frozen=True)
class Clause:
    """One verb at most and the sounds it is about; indices are those of `take_amounts` and `take_times`."""

    first: bool  # of its sentence
    action: str  # "remove", "keep", "solo", "up", "down", "set", "want", "touch", or "" for none
    negated: bool
    items: tuple[Named, ...]
    amount: int | None  # said before the first name
    when: int | None  # said before the first name
    is_suffix: bool  # the names come first: "birds quieter", "make birds quieter"
    nothing_else: bool
    outside: bool  # the last times are excepted
    but: bool = False  # "but" stands before it


_SECOND = phrases.CHANGES | phrases.ENDS | phrases.PARTICLES
_BEFORE_NAMES = re.compile(
    r"^(?:(?:the|a|an|any|all|some|this|that|these|those|my|our|his|her|their|both|every|each|of|from|on|to|for"
    r"|with|in|single|whole|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\s+"
    r"|traces? of\s+|(?:sounds?|noises?) (?:of|from)\s+)+"
)
_AFTER_NAMES = re.compile(r"(?:\s+(?:in the (?:background|foreground|distance)|volume|level))+$")
_NAME = re.compile(r"[\w' .-]*[^\W\d][\w' .-]*")
_NUMBER = re.compile(r"[\d.]+(?:k?hz)?|k?hz|hertz")
_SPEAKERS = frozenset(("speaker", "speakers", "talker", "talkers"))  # people: what is heard of them is speech
_IT = frozenset(("it", "them", "they", "those", "these", "that", "this"))


def clauses(text: str) -> tuple[list[Clause], list[Amount], list[When]]:
    """The clauses of an instruction, and the amounts and times that they point to.

    Raises:
        QueryError: another language, a time that cannot be placed, or words that name no sound.

    >>> [(clause.action, clause.items[0][0]) for clause in clauses("Turn the dog up and the birds down.")[0]]
    [('up', 'dog'), ('down', 'birds')]
    """
    plain, quoted = phrases.plain(text)
    if word := foreign(plain):
        raise QueryError(
            f"the rules read English only, and {word!r} is none; say it in English, {HINT}, or let a "
            f"language model read it with --chat"
        )
    plain, times = take_times(plain)
    plain, amounts = take_amounts(plain)
    found = [
        _clause(part.split(), i == 0, quoted)
        for sentence in phrases.sentences(plain)
        for i, part in enumerate(sentence)
    ]
    return found, amounts, times


class _Words:
    """A clause while its words are read one after the other."""

    def __init__(self) -> None:
        self.verb = self.second = ""  # the action before the names, and what follows or completes it
        self.closed = False  # the verb has no second part
        self.only = self.negated = self.nothing_else = self.excepted = self.but = False
        self.names: list[list[str]] = []  # an empty one is the rest
        self.flags: list[bool] = []  # whether each is excepted
        self.amounts: dict[int, int] = {}  # by the number of names that stand before it
        self.whens: dict[int, int] = {}
        self.within = False  # a name is being read
        self.before_second = 0  # names

    def read(self, word: str, following: str) -> None:
        """The next word."""
        if word[0] in "#@" and word[1:].isdigit():
            (self.amounts if word[0] == "#" else self.whens)[len(self.names)] = int(word[1:])
            self.within = False
        elif word in ("NOT", "ONLY", "EXCEPT", "NOTHING_ELSE", "REST", "BUT"):
            self._mark(word)
        elif not self.names and not self.second and self.verb in ("", "want") and self._is_verb(word):
            self.verb = phrases.VERBS.get(word) or phrases.OPEN_VERBS[word]
            self.closed = word in phrases.VERBS
        elif self._is_second(word, following):
            if self.second not in ("", _SECOND[word]):
                raise QueryError(
                    f"both {self.second!r} and {_SECOND[word]!r} for one sound; say one of the two"
                )
            self.second, self.before_second, self.within = _SECOND[word], len(self.names), False
        elif self.within:
            self.names[-1].append(word)
        else:
            self._begin([word])

    def _begin(self, words: list[str]) -> None:
        self.names.append(words)
        self.flags.append(self.excepted)
        self.within = bool(words)

    def _mark(self, word: str) -> None:
        if word == "ONLY" and self.negated:
            raise QueryError("'not only' and 'not just' say too little; name all that is to be done")
        self.within = False
        self.but |= word == "BUT"
        self.negated |= word == "NOT"
        self.only |= word == "ONLY"
        self.excepted |= word == "EXCEPT"
        self.nothing_else |= word == "NOTHING_ELSE"
        if word == "REST":
            self._begin([])

    @staticmethod
    def _is_verb(word: str) -> bool:
        return word in phrases.VERBS or word in phrases.OPEN_VERBS

    def _is_second(self, word: str, following: str) -> bool:
        if self.closed:
            return word.isupper() and word in _SECOND
        if word in phrases.PARTICLES:
            # "airplane taking off over town" is a name; "piano up 3 dB" and "turn down the music" are not.
            return not following or following[0] in "#@" or following.isupper() or not self.names
        return word in phrases.CHANGES or (word in phrases.ENDS and bool(self.names))

    @property
    def action(self) -> str:
        """What all of it comes to."""
        if self.only and self.second in ("", "keep") and self.verb in ("", "keep", "want", "set"):
            return "solo"
        if self.verb == "want" and [] in self.names:
            return self.second or "keep"
        return self.second or self.verb

    @property
    def _bare(self) -> bool:
        """Whether it is no more than names and times."""
        marked = self.negated or self.only or self.nothing_else
        return not (self.verb or self.second or marked or self.amounts)

    def clause(self, first: bool, quoted: list[str]) -> Clause:
        """What was read.

        Raises:
            QueryError: a name that cannot be one.
        """
        items: list[Named] = []
        but_these = self.but and self._bare  # "all animals but the birds"
        amount, when = self.amounts.get(0), self.whens.get(0)
        for i, (words, excepted) in enumerate(zip(self.names, self.flags, strict=True), start=1):
            own = self.amounts.get(i), self.whens.get(i)
            if words == [] or (name := _name(" ".join(words), quoted)):
                items.append((name if words else REST, excepted or but_these, *own))
            elif not items:  # an article and no more
                amount, when = own[0] if amount is None else amount, own[1] if when is None else when
        return Clause(
            first=first,
            action=self.action,
            negated=self.negated,
            items=tuple(items),
            amount=amount,
            when=when,
            is_suffix=self.before_second > 0 or not (self.verb or self.second),
            nothing_else=self.nothing_else,
            outside=self.excepted and not any(self.flags),
            but=self.but,
        )


def _clause(words: list[str], first: bool, quoted: list[str]) -> Clause:
    reading = _Words()
    for word, following in zip(words, [*words[1:], ""], strict=True):
        reading.read(word, following)
    return reading.clause(first, quoted)


def _name(words: str, quoted: list[str]) -> str:
    """The name of a sound without articles, counts and what else does not tell how it sounds.

    Raises:
        QueryError: it is none.

    >>> _name("the sound of both dogs in the background", []), _name("both speakers", [])
    ('dogs', 'speech')
    """
    name = _AFTER_NAMES.sub("", _BEFORE_NAMES.sub("", f"{words} ").strip())
    if re.fullmatch(r"\$\d+", name):
        return quoted[int(name[1:])]
    name = name.replace("_", " ")
    if name in _IT:
        return "it"
    said = name.split()
    if not said:
        return ""
    if said[-1] in ("by", "at"):  # "car passing by"
        said = said[:-1]
    # In "dog that is barking" only the words before "that" are the name proper.
    proper = list(takewhile(lambda word: word not in ("who", "that"), said))
    if (
        phrases.NO_NAMES.intersection(proper)
        or name in phrases.PARTICLES
        or said[0] in phrases.OTHER_VERBS
        or said[0] in phrases.NO_EDGES
        or (said[-1] in phrases.NO_EDGES and not is_gerund(said[-2]))
        or _NUMBER.fullmatch(said[-1])
        or len(said) > LONGEST_NAME
        or not _NAME.fullmatch(name)
    ):
        raise QueryError(
            f"{name[:80]!r} is neither the name of a sound nor something that can be done to one: sounds can "
            f"be removed, kept, or made louder or quieter; {HINT}"
        )
    if name in phrases.NO_SOUNDS:
        raise QueryError(f"{name!r} is no sound; nothing is ever deleted, name a sound in the recording")
    return "speech" if name in _SPEAKERS else name
