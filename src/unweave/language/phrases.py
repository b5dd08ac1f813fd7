"""The words of an instruction that mean something, as tokens in capitals; what is left names sounds."""

import re
import unicodedata


def _table(lines: str) -> dict[str, str]:
    """Lines of an action and its words, as word -> action."""
    pairs = (line.split(": ") for line in lines.strip().splitlines())
    return {word: action for action, words in pairs for word in words.split()}


def _words(lines: str) -> frozenset[str]:
    return frozenset(lines.split())


# Verbs before the sound, whose name runs on to the end of the clause ...
VERBS = _table("""
remove: remove removing delete deleting mute muting silence silencing eliminate eliminating erase erasing omit
remove: hush exclude excluding discard suppress banish ditch scrap lose nix cancel subtract
keep: keep keeping retain preserve save
solo: solo isolate isolating extract extracting
touch: touch change alter affect
""")
# ... and verbs that may have a second part behind it: "turn the piano up", "make the dog quieter".
OPEN_VERBS = _table("""
remove: cut cutting strip drop dropping kill filter clean clear wipe dump
keep: leave leaving
down: reduce reducing lower lowering decrease attenuate soften dampen quieten quiet weaken dim duck lessen
up: boost boosting raise raising increase increasing amplify amplifying strengthen emphasize emphasise enhance
up: lift crank pump
set: make making turn turning set setting bring put get pull push let take adjust have
want: WANT
""")
CHANGES = _table("""
down: quieter softer lower weaker less DOWN
up: louder higher stronger more UP
""")
ENDS = _table("""
remove: gone removed muted silenced deleted erased REMOVE
remove: disappear vanish
keep: STAY
""")
PARTICLES = _table("""
up: up
down: down
keep: through in
remove: out off away
""")
NO_NAMES = _words("""
i you we me us he she my your is are was were am be been do does did done will would can could
what why how when where which let ignore forget instruction instructions previous prompt
remove keep delete mute isolate extract make turn increase decrease reduce nothing something
between until seconds minutes by at it so
after before during throughout same louder quieter softer
than neither either rather instead hear enough if possible teh everyone everybody anyone anybody within
""")
# Words that no name begins or ends with: what they say has not been understood.
NO_EDGES = _words("""
of on from to for with into onto under near as till and or not just even
the a an that who which
too very quite rather much more most all half third quarter way
zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty
""")
OTHER_VERBS = _words("""
add play pan reverse fade slow speed pitch replace swap normalize normalise compress loop stretch shift export
send tell write open print run upload download translate explain show describe list convert record trim split
copy move email say repeat double tune transpose autotune master give go use
""")
NO_SOUNDS = _words(
    "file files recording recordings folder folders disk drive audio clip clips track tracks one"
)
ONE_NAME = ("rock and roll", "drum and bass", "rhythm and blues", "hustle and bustle", "pots and pans")

_THINGS = r"(?:sounds?|things?|stuff|tracks?|parts?)"
_APART = r"except(?: for| from)?|excluding|apart from|other than|besides|save for"
_BUT = rf"(?:but|{_APART}|without|minus)"
_WISH = r"\b(?:i|we)(?: would|'d)?(?P<only>(?: only| just)?)"
_MUST = r"(?:should|must|can|may|has to|have to|needs? to|ought to)"
# In this order: what comes later may build on the tokens made before.
_PHRASES = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\b(?:i|we)(?: would|'d)? rather not (?:hear|have|keep)\b", "NOT WANT"),
        (
            r"\b(?:don't|dont|do not|never|rather not|cannot|doesn't|does not"
            r"|(?:must|should|shall|can|may) ?(?:not|n't))\b(?: ever)?",
            "NOT",
        ),
        (rf"\bnothing (?:else )?{_BUT}\b", "ONLY"),
        (r"\bnothing else\b", "NOTHING_ELSE"),
        (
            rf"\b(?:everything|anything|all|every{_THINGS}"
            rf"|(?:all|any) (?:of )?(?:the )?(?:other )?{_THINGS}) (?:else )?{_BUT}\b",
            "REST EXCEPT",
        ),
        (r"\b(?:everything|anything|all|whatever) else\b", "REST"),
        (rf"\b(?:all (?:of )?)?the (?:rest|remainder)(?: of (?:it|the {_THINGS}))?\b", "REST"),
        (rf"\b(?:(?:all|any|every) )?(?:of )?(?:the )?(?:other|remaining) (?:{_THINGS}|noises?)\b", "REST"),
        (r"\b(?:all )?the others\b", "REST"),
        (r"\b(?:all of (?:it|this|that)|(?:it|them) all|the (?:whole|entire) (?:thing|recording))\b", "REST"),
        (rf"\b(?:everything|anything)\b|\ball (?:of )?(?:the )?{_THINGS}\b(?! of)", "REST"),
        (
            # Who does not hear a sound complains; who does not want to hear it wants it removed.
            r"\b(?:i|we)(?: would|'d)? NOT (?:want|need|like|wish)(?: to)?(?: hear| have| keep)?\b",
            "NOT WANT",
        ),
        (rf"{_WISH} (?:want|need|like|love)(?: to)? (?:hear|have|keep)\b", r"\g<only> WANT"),
        (rf"{_WISH} (?:want|need)\b", r"\g<only> WANT"),
        (r"\b(?:i|we)(?: would|'d)(?P<only>(?: only| just)?) like\b", r"\g<only> WANT"),
        (r"\b(?:give|let) me(?: hear| have)?\b|\b(?:let us|let's) hear\b", "WANT"),
        (r"\btake (#\d+) (?:off|from|out of)\b", r"DOWN \1"),
        (r"\b(?:add|give) (#\d+) (?:more )?(?:to|of)\b", r"UP \1"),
        (r"\bgive\b", "make"),
        (r"\b(?:get|getting) rid of\b|\bdo away with\b|\b(?:turn|turning|switch|shut) off\b", "remove"),
        (
            r"\b(?:take|taking|leave|leaving|cut|filter|clean|edit|wipe|strip|get) (?:out|away)(?: of)?\b",
            "remove",
        ),
        (r"\bout of (?:there|here|it)\b", "out"),
        (rf"\b{_MUST} (?:go|disappear|vanish)\b|\bgo(?:es)? away\b|(?<=REST )(?:goes|go)\b", "REMOVE"),
        (rf"\b(?:{_MUST} )?(?:stays?|remains?)\b", "STAY"),
        (
            r"\b(?:alone|untouched|unchanged|intact|in place|as (?:it|they) (?:is|are)|as is|as before)\b",
            "STAY",
        ),
        (r"\b(?:at )?(?:its|their) (?:(?:own|same) )?(?:level|volume)\b|\bthe same\b", "STAY"),
        (r"\b(?:(?:is|are|'s) )?(?:(?:far|much|way) )?too (?:loud|strong|high)\b", "DOWN"),
        (r"\b(?:(?:is|are|'s) )?(?:(?:far|much|way) )?too (?:quiet|soft|weak|low)\b", "UP"),
        (r"\b(?:should|must|(?:has|have|needs?|ought) to)(?: be| become)?\b|\bto be\b", ""),
        (rf"\b(?:{_APART})\b", "EXCEPT"),
        (r"\bwithout\b|\bminus\b|\bno more\b|\bno\b", ", remove"),
        (r"\bnot\b", "NOT"),
        (r"\b(?:only|just|solely|exclusively)\b", "ONLY"),
        (r"\bbut\b(?: ?,)*", ", BUT"),
    )
]
_POLITE = re.compile(
    r"\b(?:please|kindly|pls|thanks|thank you(?: very much)?|cheers)\b"
    r"|\b(?:can|could|would|will) (?:you|we)(?: mind)?\b|\bgo ahead and\b|\b(?:try|help me|make sure) to\b"
    r"|\bi(?: would|'d)? (?:like|want|need|love) you to\b|\b(?:let us|let's)\b(?! hear)|\bfor me\b"
    r"|\bif (?:it is |it's |at all )?possible\b|\bif you (?:can|could)\b"
    r"|\b(?:actually|also|now|throughout|too(?! )|as well(?! as)|first of all|finally|again|simply"
    r"|instead(?! of))\b"
    r"|\b(?:completely|entirely|totally|fully|altogether)\b"
    r"|\b(?:the )?(?:volume|level|loudness) of\b"
    r"|\b(?:in|from|of|on|throughout) (?:the|this|that|my) (?:whole |entire )?"
    r"(?:recording|audio|track|file|clip|mix|song|scene|video)\b"
)
_HELLO = re.compile(
    r"^(?:(?:yes|ok|okay|well|hey|hi|hello|so|oh)(?=[\s,.!]|$)[\s,.!]*)*(?:(?:no[\s,.!]+)*no\s*[,.!]+\s*)?"
)
_QUESTION = re.compile(
    r"(?:^|[.!?]\s+)(?:what|which|who|whose|when|where|why|how|is|are|was|were|does|did|has|am"
    r"|do (?:you|i|we|they|the|these|those|any)|have (?:you|i|we)|(?:can|could|should|may) i)\b"
)
_ASKED = re.compile(r"\b(?:can|could) (?:you|we|anyone|anybody) (?:hear|make out|tell)\b")
_BUT_ALSO = re.compile(r"\bbut (?:also|even|then)\b|\bbut\b(?=[^,.;!?]*\b(?:also|too(?! )|as well)\b)")
_SENTENCES = re.compile(r"[.!?]+(?=\s|$)|;")
_CUT = re.compile(
    r"\s*(?:,|\s-\s|--+|&|\b(?:and|then|while|whereas|plus|or|nor|as well as|along with"
    r"|together with)\b)\s*"
)
_QUOTES = re.compile(r'"([^"]*\w[^"]*)"|(?<!\w)\'([^\']*\w[^\']*)\'(?!\w)')
_STRAIGHT = str.maketrans("“”„«»’‘–—−", '"""""' + "''---")


def plain(text: str) -> tuple[str, list[str]]:
    """Lower case and single spaces, and what stood in quotes, for which there is ``$0``, ``$1``...

    >>> plain("Hello, remove  “AC/DC”!")
    ('remove $0 !', ['AC/DC'])
    """
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT)
    text = re.sub(r"[#$@]", " ", " ".join(text.split()))
    quoted: list[str] = []

    def put(match: re.Match[str]) -> str:
        quoted.append(" ".join((match[1] or match[2]).split()))
        return f" ${len(quoted) - 1} "

    text = _QUOTES.sub(put, text).lower()
    return " ".join(_HELLO.sub("", text.strip()).split()), quoted


def is_question(text: str) -> bool:
    """Whether some sentence asks; "could you" does not.

    >>> is_question("is there a dog?"), is_question("could you remove the dog?")
    (True, False)
    """
    return bool(_ASKED.search(text) or _QUESTION.search(_POLITE.sub(" ", text).strip()))


def sentences(text: str) -> list[list[str]]:
    """The clauses of every sentence, in tokens and names.

    Args:
        text: from `plain`, with ``#0`` for amounts and ``@0`` for times.

    >>> sentences("please take out the dog, birds #0 quieter. keep everything else")
    [['remove the dog', 'birds #0 quieter'], ['keep REST']]
    """
    text = re.sub(r":(?= )", ",", re.sub(r":(?= ?[#@])", "", text))
    text = " ".join(_POLITE.sub(" ", _BUT_ALSO.sub("and", text)).split())
    for name in ONE_NAME:
        text = text.replace(name, name.replace(" ", "_"))
    for pattern, put in _PHRASES:
        text = " ".join(pattern.sub(f" {put} ", text).split())
    cut = ([part.strip() for part in _CUT.split(sentence)] for sentence in _SENTENCES.split(text))
    return [[part for part in parts if part] for parts in cut]
