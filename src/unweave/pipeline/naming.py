"""Names of output files: safe on any file system, still readable, never two the same."""

import hashlib
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from unweave.errors import UsageError
from unweave.types import Query

DEFAULT_TEMPLATE = "{index:02d}-{stem}.{ext}"
RESIDUAL = "residual"
FIELDS = ("track", "index", "stem", "model", "ext")
LONGEST_SLUG = 80  # bytes of UTF-8
LONGEST_TRACK = 150  # bytes; leaves room for the stem and a temporary prefix
LONGEST_NAME = 240  # bytes; file systems stop at 255, temporary files need some of them
RESERVED = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)))
)


def slug(text: str) -> str:
    """Words as a file name: letters and digits of any script, lower case, joined by dashes.

    >>> slug("A dog, barking!"), slug("犬の鳴き声"), slug("?!")
    ('a-dog-barking', '犬の鳴き声', 'sound')
    """
    kept = ""
    for character in unicodedata.normalize("NFC", text).lower():
        kind = unicodedata.category(character)[0]
        joins = kind == "M" and kept != "" and kept[-1] != "-"  # an accent without its letter is invisible
        if kind in "LN" or joins:
            kept += character
        elif kept and kept[-1] != "-":
            kept += "-"
    return _cut(kept, LONGEST_SLUG).strip("-") or "sound"


def track_name(source: Path) -> str:
    """The folder for a recording: its own name as far as every file system takes it.

    >>> track_name(Path("in/street 🎧.take 2.wav")), track_name(Path("-rf.wav")), track_name(Path("a:b?.mp3"))
    ('street 🎧.take 2', 'rf', 'a_b_')
    """
    name = unicodedata.normalize("NFC", source.stem)
    name = "".join("_" if _unsafe(character) else character for character in name)
    name = name.lstrip(".- ").rstrip(". ") or "track"
    if name.split(".")[0].lower() in RESERVED:
        name = f"_{name}"
    if len(name.encode()) <= LONGEST_TRACK:
        return name
    # Two long names that differ at the end only must not share a folder.
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_cut(name, LONGEST_TRACK - 9).rstrip('. ')}-{mark}"


def stem_names(
    template: str, queries: Sequence[Query], *, track: str, model: str, extension: str
) -> list[str]:
    """One file name per query, in order, then the residual's.

    Args:
        template: `str.format` text with the fields in FIELDS, {index} counting from 1.
        queries: what was asked; the words become {stem}.
        track: as `track_name` made it.
        model: published name or path.
        extension: of the output format, without a dot.

    Raises:
        UsageError: an unknown field, a path instead of a name, a name too long, or two the same.

    >>> stem_names("{index:02d}-{stem}.{ext}", [Query("Rain")], track="a", model="m", extension="wav")
    ['01-rain.wav', 'residual.wav']
    """
    _check_template(template)
    names = []
    for index, query in enumerate(queries, start=1):
        text = query.text if query.keep else f"no {query.text}"
        fields = {"track": track, "index": index, "stem": slug(text), "model": slug(model), "ext": extension}
        try:
            names.append(template.format(**fields))
        except (ValueError, TypeError) as error:
            raise UsageError(f"the file name template {template!r} cannot be filled in: {error}") from error
        _check_name(names[-1], template)
    names.append(f"{RESIDUAL}.{extension}")
    taken = {"separation.json"}
    for name in names:
        if name.casefold() in taken:
            raise UsageError(
                f"the file name template {template!r} gives {name!r} twice; put {{index}} and {{stem}} in"
            )
        taken.add(name.casefold())
    return names


def _check_template(template: str) -> None:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the file name template {template!r} is not valid: {error}") from error
    for _, field, spec, conversion in parsed:
        if field is None:
            continue
        if field not in FIELDS:
            raise UsageError(
                f"the file name template has no field {{{field}}}; the fields are "
                f"{', '.join(f'{{{name}}}' for name in FIELDS)}"
            )
        if conversion or "{" in (spec or ""):
            raise UsageError(
                f"the file name template wants plain fields like {{index:02d}}, got {template!r}"
            )


def _check_name(name: str, template: str) -> None:
    if any(c in "/\\\0" for c in name) or name.startswith((".", "-", " ")) or not name:
        raise UsageError(
            f"the file name template {template!r} gives {name!r}; wanted is one name inside the output "
            f"folder, without slashes and not starting with a dot, dash or space"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise UsageError(
            f"the file name template {template!r} gives a name of {len(name.encode())} bytes, file systems "
            f"take {LONGEST_NAME} with room for temporary files; leave {{track}} or some words out"
        )


def _unsafe(character: str) -> bool:
    # The zero-width joiner counts as a control character, and holds emoji together.
    control = unicodedata.category(character)[0] == "C" and character != "\u200d"
    return control or character in '/\\:*?"<>|'


def _cut(text: str, size: int) -> str:
    """The longest beginning of `text` with at most `size` bytes, no character cut in two."""
    return text.encode()[:size].decode(errors="ignore")
