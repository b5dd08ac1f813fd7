"""Times and amounts in an instruction, found wherever they stand: "between 0:05 and 0:12", "by six dB"."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unweave.errors import QueryError
from unweave.language.plans import Span

LOUDNESS_STEP_DB = 10.0  # twice as loud, to the ear: Stevens, "The measurement of loudness", 1955
SOME_DB = 6.0  # "louder", and no word about how much: half or twice the amplitude
LITTLE_DB, MUCH_DB = 3.0, 12.0  # "a bit louder", "much louder"

_WORDS = dict(
    zero=0, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, eleven=11,
    twelve=12,
) | dict(fifteen=15, eighteen=18, twenty=20, thirty=30, forty=40, fifty=50, sixty=60)  # fmt: skip
_PLAIN = rf"(?:\d+(?:[.,]\d+)?|\b(?:{'|'.join(_WORDS)})\b)"
_CLOCK = r"\d+:\d\d(?::\d\d)?(?:\.\d+)?"
_UNIT = r"(?:hours?|hrs?|h|minutes?|mins?|m|milliseconds?|ms|seconds?|secs?|s)(?![a-z])"
_LASTING = rf"(?:\bhalf (?:an? )?|{_PLAIN}\s?){_UNIT}(?:\s?(?:and\s)?{_PLAIN}\s?{_UNIT})*"
_SURE = rf"(?:{_CLOCK}|{_LASTING})"  # a time for certain
_TIME = rf"(?:seconds?\s)?(?:{_CLOCK}|{_LASTING}|{_PLAIN})"  # a time where one is expected
_LEAD = r"(?P<only>\b(?:but\s)?(?:only|just)\s)?(?:\bstarting\s|\bbeginning\s)?"
_END = r"(?:the\s)?(?:very\s)?end"
_TO = r"(?:(?:un)?till?|(?:up )?to|through|-)"
_ON = r"(?:\s?(?:on|onwards?|and later))?\b"

_TIMES = [
    re.compile(_LEAD + pattern)
    for pattern in (
        rf"\bbetween\s(?P<a>{_TIME})\s(?:and|to)\s(?P<b>{_TIME}|{_END})",
        rf"\b(?:from|starting at)\s(?P<a>{_TIME})\s?{_TO}\s?(?P<b>{_TIME}|{_END})",
        rf"\b(?:from\s)?(?:the\s)?(?:beginning|start)\s(?:to|until|till|up to)\s(?P<b>{_TIME})",
        rf"(?P<a>{_CLOCK}|{_PLAIN})\s?(?:-|to)\s?(?P<b>{_SURE})",
        rf"\b(?:after|past|since|as of)\s(?:the\sfirst\s)?(?P<a>{_TIME}|hour|minute|second){_ON}",
        rf"\b(?:(?:in|during|for|over|within)\s)?the\sfirst\s(?P<first>{_LASTING}|hour|minute|second)\b",
        rf"\b(?:from|at|as of)\s(?P<a>{_SURE})\s(?:on|onwards?)\b",
        rf"\bfrom\s(?P<a>{_SURE}){_ON}",
        rf"(?<=starting )at\s(?P<a>{_TIME}){_ON}",
        rf"\b(?:before|until|till)\s(?P<b>{_TIME})",
        rf"\bup\sto\s(?P<b>{_SURE})",
    )
]
# What is left of times: points, lengths without a beginning, and places that only the recording tells.
_PART = (
    r"(?:(?:first|second|other|last)\s(?:half|third|quarter|part)|(?:very\s)?(?:middle|beginning|start|end))"
)
_NO_TIMES = re.compile(
    rf"\b(?:in|during|for|over)?\s?the\slast\s(?:{_LASTING}|hour|minute|second)\b"
    rf"|\b(?:at|for|around|in|within|every|by)\s{_SURE}"
    rf"|(?<!the )\b{_SURE}(?=\s*(?:$|[,;.!?]|(?:and|but|then)\b))"
    rf"|\b(?:in|at|near|around|towards?|during|for|over|until|from|by)\s(?:the\s)?{_PART}\b"
)
_HERTZ = re.compile(r"@\d+ ?(?:k?hz|(?:kilo)?hertz)\b")

_DB = r"\s?(?:db|decibels?)\b"
_SIGN = r"(?P<sign>(?<![\w)])[+-]\s?|\b(?:plus|minus)\s)"
# "a little louder" is an amount, "a little girl" is not.
_BEFORE_CHANGE = (
    r"(?=\s*(?:$|[,;.!?@]|(?:and|but|then|up|down|more|less|of|louder|quieter|softer|lower|higher)\b))"
)
_AMOUNTS = [
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rf"{_SIGN}(?P<n>{_PLAIN})(?:{_DB}|(?=\s*(?:$|[,;.])))", "signed"),
        (rf"(?P<n>{_PLAIN}){_DB}", "db"),
        (
            rf"(?:(?<=\bby )|(?<=\bup )|(?<=\bdown ))(?P<n>{_PLAIN})(?=\s*(?:$|[,;.!]|(?:and|but|then)\b))",
            "db",
        ),
        (r"\b(?P<n>a couple of|a few|half a|a)\s(?:db|decibels?)\b", "db"),
        (rf"\bby\s(?:a\s)?(?P<n>{_PLAIN})\s?(?:%|percent)", "percent"),
        (
            rf"\b(?:to|at)\s(?P<n>{_PLAIN})\s?(?:%|percent)(?: of (?:its|the|their)(?: volume| level)?)?",
            "share",
        ),
        (rf"(?P<n>{_PLAIN})\s?(?:%|percent)", "percent"),
        (r"\b(?:twice|double) as loud(?: as (?:before|now|it is))?\b", "twice"),
        (r"\b(?:double|doubling) (?:the )?(?:volume|level|amplitude) of\b", "double"),
        (r"\b(?:halve|halving) (?:the )?(?:volume|level|amplitude) of\b", "half"),
        (r"\bhalf as loud(?: as (?:before|now|it is))?\b", "half as loud"),
        (rf"\b(?P<n>{_PLAIN}) times (?:as loud|louder)\b", "times"),
        (r"\b(?:at|to) half(?: (?:its|the|their))?(?: volume| level)?\b", "half"),
        (r"\b(?:by (?:a )?half|in half|half of)\b", "half off"),
        (r"\b(?:just )?(?:slightly|somewhat|gently)\b", "little"),
        (rf"\b(?:just )?a (?:little bit|little|bit|touch|tad)\b{_BEFORE_CHANGE}", "little"),
        (r"\b(?:considerably|significantly|strongly|heavily|drastically)\b", "much"),
        (rf"\b(?:a lot|lots|much|way|far)\b{_BEFORE_CHANGE}", "much"),
    )
]


@dataclass(frozen=True)
class Amount:
    """How much: up or down by so many dB, or to a gain that is fixed whatever the verb."""

    step_db: float = SOME_DB  # 0 or above
    gain_db: float | None = None  # not None: this gain
    share: float | None = None  # not None: by so much of its amplitude, 0..1 and more

    def towards(self, direction: int) -> float:
        """The gain in dB, for `direction` 1 up and -1 down.

        Raises:
            QueryError: less than nothing is left.
        """
        if self.gain_db is not None:
            return self.gain_db
        if self.share is None:
            return direction * self.step_db
        left = 1 + direction * self.share
        if left <= 0:
            raise QueryError(
                "nothing is left of a sound that is lowered by 100 % or more; say 'remove' for that"
            )
        return _db(left)


@dataclass(frozen=True)
class When:
    """The times that were named in one place."""

    spans: tuple[Span, ...]
    only: bool = False  # "only between ..."
    outside: bool = False  # "except between ..."


def take_times(text: str) -> tuple[str, list[When]]:
    """Put ``@0``, ``@1``... in the place of the times in `text`.

    Args:
        text: lower case, single spaces.

    Raises:
        QueryError: a time that ends before it begins, is counted from the end, or is a point; a band of
            frequencies.

    >>> take_times("remove the dog between 0:05 and 0:12")
    ('remove the dog @0', [When(spans=((5.0, 12.0),), only=False, outside=False)])
    """
    found: list[When] = []
    for pattern in _TIMES:

        def put(match: re.Match[str]) -> str:
            found.append(When((_span(match.groupdict()),), bool(match["only"])))
            return f"@{len(found) - 1}"

        text = pattern.sub(put, text)
    if _HERTZ.search(text):
        raise QueryError("a band of frequencies cannot be asked for; name the sound, for example 'the hum'")
    if refused := _NO_TIMES.search(text):
        raise QueryError(
            f"{refused[0].strip()!r} cannot be placed; give times from the start of the recording, with a "
            f"beginning and an end, for example 'between 0:05 and 0:12' or 'after 10 s'"
        )
    while match := re.search(r"@(\d+),? (?:and |or )?@(\d+)", text):
        one, other = found[int(match[1])], found[int(match[2])]
        found.append(When((*one.spans, *other.spans), one.only or other.only))
        text = f"{text[: match.start()]}@{len(found) - 1}{text[match.end() :]}"
    return re.sub(r"\b(?:in|for|during|over|at) (?=@)", "", text), found


def take_amounts(text: str) -> tuple[str, list[Amount]]:
    """Put ``#0``, ``#1``... in the place of the amounts in `text`.

    >>> take_amounts("birds 6 db quieter, rain down a bit")
    ('birds #0 quieter, rain down #1', [Amount(step_db=6.0, gain_db=None, share=None), \
Amount(step_db=3.0, gain_db=None, share=None)])
    """
    found: list[Amount] = []
    text = re.sub(
        rf"\b(?:about|roughly|around|approximately|another|an extra) (?={_PLAIN}\s?(?:%|percent|{_DB}))",
        "",
        text,
    )
    for pattern, kind in _AMOUNTS:

        def put(match: re.Match[str], kind: str = kind) -> str:
            found.append(_amount(match.groupdict(), kind))
            return f"#{len(found) - 1}"

        text = pattern.sub(put, text)
    return re.sub(r"\b(?:by|to|at|with|of) (?=#)", "", text), found


def _amount(match: dict[str, str | None], kind: str) -> Amount:
    number = _number(match.get("n") or "0")
    if kind == "signed":
        minus = (match.get("sign") or "").strip() in ("-", "minus")
        return Amount(number, gain_db=-number if minus else number)
    if kind in ("percent", "share"):
        if kind == "share":
            return Amount(gain_db=_db(number / 100) if number else -math.inf)
        return Amount(share=number / 100)
    if kind == "times":
        return Amount(gain_db=round(LOUDNESS_STEP_DB * math.log2(number), 2) if number else -math.inf)
    fixed = {
        "db": Amount(number),
        "twice": Amount(gain_db=LOUDNESS_STEP_DB),
        "half as loud": Amount(gain_db=-LOUDNESS_STEP_DB),
        "double": Amount(gain_db=_db(2)),
        "half": Amount(gain_db=_db(0.5)),
        "half off": Amount(share=0.5),
        "little": Amount(LITTLE_DB),
        "much": Amount(MUCH_DB),
    }
    return fixed[kind]


def _db(amplitude: float) -> float:
    return round(20 * math.log10(amplitude), 2)


def _span(match: dict[str, str | None]) -> Span:
    if first := match.get("first"):
        return 0.0, _seconds(first)
    start, end = match.get("a"), match.get("b")
    if start and end:  # "from 1 to 2 minutes", "from 3 s to 7"
        start, end = _with_unit_of(start, end), _with_unit_of(end, start)
    begins = _seconds(start) if start else 0.0
    ends = _seconds(end) if end and not end.endswith("end") else math.inf
    if not begins < ends:
        raise QueryError(
            f"from {begins:g} to {ends:g} s is no stretch of time; give the earlier time first, for example "
            f"'between 0:05 and 0:12'"
        )
    return begins, ends


def _with_unit_of(text: str, other: str) -> str:
    unit = re.search(rf"{_UNIT}$", other)
    return f"{text} {unit[0]}" if unit and not re.search(rf"{_UNIT}|:|end$", text) else text


def _seconds(text: str) -> float:
    """
    >>> _seconds("1:02:03"), _seconds("1 min 30 s"), _seconds("7"), _seconds("minute")
    (3723.0, 90.0, 7.0, 60.0)
    """
    if ":" in text:
        return float(sum(float(part) * 60**i for i, part in enumerate(reversed(text.split()[-1].split(":")))))
    return sum(_parts(text)) if re.search(_UNIT, text) else _number(text)


def _parts(text: str) -> Iterator[float]:
    sizes: Sequence[tuple[str, float]] = (
        ("ms", 1e-3),
        ("milli", 1e-3),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    )
    for number, unit in re.findall(rf"(half|{_PLAIN})?\s?(?:an? )?({_UNIT})", text):
        yield _number(number or "one") * next(size for name, size in sizes if unit.startswith(name))


def _number(text: str) -> float:
    text = text.strip()
    several = {"a couple of": 2.0, "a few": 3.0, "half a": 0.5, "half": 0.5, "a": 1.0}
    if text in several:
        return several[text]
    return float(_WORDS[text]) if text in _WORDS else float(text.replace(",", "."))
