"""How things sound, by name: what a query is told beside its name, so that a name never met is no riddle.

The knowledge parsing of OpenSep (Mahmud and Marculescu, EMNLP 2024, section 3.2): there a language model is
asked for every name, here it was asked beforehand, about the public vocabularies of sounds and more, and
the table comes with the package. A name that the table lacks gets the description of the nearest one.

`acoustics.py` has the same in numbers, for fewer names; `Knowledge.sound` finds them for any name.

Run ``python -m unweave.language.knowledge`` after a change of the table: it encodes the names anew.
"""

import functools
import hashlib
import json
import re
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unweave.encoders.minilm import MiniLM, wording
from unweave.errors import ChatError, ModelError
from unweave.language import acoustics
from unweave.language.acoustics import Sound
from unweave.language.chat import Chat
from unweave.types import LONGEST_QUERY, Query

NEAREST = 0.7  # least cosine of names; below, the nearest is of the same entry in half of all cases only
SEVERAL = re.compile(r"\s(?:and|or)\s|[,;+&/]")  # between the names of several sounds
# Least cosine of names for a guess about frequencies. In the table's own entries, the nearest other one at
# 0.65 to 0.7 shares at least half of the range in 85 % of cases, one drawn by chance in 58 %.
SIMILAR = 0.65
SURE = 0.9  # least cosine where a name looks like several: "dog and rain" is 0.78 from "rain"
ARTICLE = re.compile(r"^(?:(?:the |a )?sounds? of )?(?:an? |the |some )?")
PLAYED = re.compile(r"^(?:someone |somebody |a person )?playing (?:an? |the )?")
VECTORS = Path(__file__).with_name("data") / "names-minilm.safetensors"


class Knowledge:
    """The table, searched by name and then by meaning; every answer is remembered."""

    def __init__(self, encoder: MiniLM) -> None:
        self._encoder = encoder
        self._found: dict[str, str] = {}

    def enriched(self, query: Query, always: bool = False) -> str:
        """What to tell a network of a query: its words, and after each sound it never met how that sounds.

        What the query itself says of the sound goes first; what is not known stays as it is, and so does a
        name that was trained on, which says more to the network than a description; unless `always` is set.

        Raises:
            ModelError: the vectors of the names are missing, damaged, or older than the table.
        """
        if query.sounds_like:
            return wording(query)
        text = query.text.strip()
        names = [name.strip() for name in SEVERAL.split(text) if name.strip()]
        if self.sounds_like(text) or not names or not all(map(self.sounds_like, names)):
            names = [text]
        news = [self.sounds_like(name) if always else self._news_of(name) for name in names]
        told = " and ".join(wording(Query(*pair)) for pair in zip(names, news, strict=True))
        return told if any(news) and self._encoder.reads(told) else text

    def sounds_like(self, name: str) -> str:
        """How the sound of that name sounds, in a dozen words; "" where nothing near is known.

        Raises:
            ModelError: the vectors of the names are missing, damaged, or older than the table.
        """
        return table().get(self._entry(name), "")

    def sound(self, name: str, chat: Chat | None = None) -> Sound | None:
        """The facts of a sound: the table's, else a chat's, else those of the nearest name, as a guess.

        Args:
            name: of one sound, as anybody writes it.
            chat: asked about names that the table lacks; what is wrong with its answer is in `Sound.note`.

        Returns:
            None where nothing near is known either.

        Raises:
            ModelError: the vectors of the names are missing, damaged, or older than the table.
        """
        plain = plainly(name.replace("_", " "))
        for one in (plain, PLAYED.sub("", plain)):
            entry = acoustics.named().get(one) or _stated().get(one)
            if entry:
                return acoustics.stated(entry)
        note = ""
        if chat is not None and plain:
            try:
                return acoustics.told(chat, " ".join(name.split()))
            except ChatError as error:
                note = f"facts of the nearest name, because of the chat: {error}"
        entry = self._similar(plain)
        return acoustics.stated(entry, "nearest", note) if entry else None

    def _news_of(self, name: str) -> str:
        entry = self._entry(name)
        return "" if entry in trained() else table().get(entry, "")

    def _entry(self, name: str) -> str:
        """The name in the table that means `name`, "" for none."""
        plain = plainly(name)
        if plain not in self._found:
            exact = [one for one in (plain, PLAYED.sub("", plain)) if one in table()]
            self._found[plain] = exact[0] if exact else self._nearest(plain)
        return self._found[plain]

    def _nearest(self, name: str) -> str:
        if not name or not name.isascii() or not self._encoder.reads(name):
            return ""  # words that the encoder cannot read are near to everything
        near = _vectors(VECTORS) @ self._encoder.encode([Query(name)])[0].cpu()
        best = int(near.argmax())
        least = SURE if SEVERAL.search(name) else NEAREST
        return list(table())[best] if near[best] >= least else ""

    def _similar(self, name: str) -> str:
        """The entry with facts whose name is nearest in meaning, "" where none is near."""
        if not name.isascii() or not 0 < len(name) <= LONGEST_QUERY or not self._encoder.reads(name):
            return ""  # as in `_nearest`
        names = list(_stated())
        near = _vectors(VECTORS)[_rows()] @ self._encoder.encode([Query(name)])[0].cpu()
        best = int(near.argmax())
        least = SURE if SEVERAL.search(name) else SIMILAR
        return _stated()[names[best]] if near[best] >= least else ""


def plainly(name: str) -> str:
    """A name as the table has it: lower case, no accents, no article.

    >>> plainly("The sound of a  Dog’s bark")
    "dog's bark"
    """
    letters = unicodedata.normalize("NFKD", name.replace("’", "'"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return ARTICLE.sub("", " ".join(plain.lower().split()))


@functools.cache
def table() -> dict[str, str]:
    """Every name that is known, as `plainly` writes it, and how it sounds.

    >>> table()["clarinet"]
    'smooth sustained hollow woody tones with strong odd harmonics and gentle attack'
    """
    entries = [entry for source in _sources() for entry in source.items()]
    found: dict[str, str] = {}
    # A name of its own goes before another name of something else.
    for names in ([[name] for name, _ in entries], [facts["names"] for _, facts in entries]):
        for known, (_, facts) in zip(names, entries, strict=True):
            told = facts["sounds_like"]
            for name in known:
                found.setdefault(plainly(name), told if isinstance(told, str) else told[0])
    return found


@functools.cache
def _stated() -> dict[str, str]:
    """The names of `table` whose entry has facts, and that entry, in the order of the table."""
    entries = [entry for source in _sources() for entry in source.items()]
    owner: dict[str, str] = {}
    for names in ([[name] for name, _ in entries], [facts["names"] for _, facts in entries]):
        for known, (entry, _) in zip(names, entries, strict=True):
            for name in known:
                owner.setdefault(plainly(name), plainly(entry))
    return {name: owner[name] for name in table() if owner[name] in acoustics.facts()}


@functools.cache
def _rows() -> Tensor:
    """The places in `table` of the names of `_stated`."""
    return torch.tensor([row for row, name in enumerate(table()) if name in _stated()])


@functools.cache
def trained() -> frozenset[str]:
    """The names, among those of `table`, of the labels that the shipped weights were trained on."""
    labels, others = _sources()
    names = {plainly(name) for label, facts in labels.items() for name in (label, *facts["names"])}
    return frozenset(names - {plainly(name) for name in others})


def verified() -> int:
    """How many names are known.

    Raises:
        ModelError: the vectors of the names are missing, damaged, or older than the table.
    """
    return len(_vectors(VECTORS))


def vectors() -> Tensor:
    """(names, 384) unit vectors of all names, in the order of `table`.

    Raises:
        ModelError: they are missing, damaged, or older than the table.
    """
    return _vectors(VECTORS)


def write_vectors(path: Path = VECTORS) -> None:
    """Encode all names: (names, 384) unit vectors in fp16, with the hash of the table in the header."""
    from safetensors.torch import save_file

    encoder, names = MiniLM(), list(table())
    encoder.remember(names)
    vectors = encoder.encode([Query(name) for name in names]).half().contiguous()
    part = path.with_name(f".{path.name}.part")
    try:
        save_file({"names": vectors}, part, metadata={"table": _hash()})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@functools.cache
def _vectors(path: Path) -> Tensor:
    """(names, 384) float32, in the order of `table`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            of_table = (opened.metadata() or {}).get("table")
            vectors: Tensor = opened.get_tensor("names").float()
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is missing or damaged: {error}; reinstall unweave") from error
    if of_table != _hash() or vectors.shape != (len(table()), MiniLM.dim):
        raise ModelError(f"{path} is not of this table; run: python -m unweave.language.knowledge")
    return vectors


@functools.cache
def _sources() -> list[dict[str, Any]]:
    """Labels that were trained on have their descriptions beside what else training knows of them."""
    files = [
        resources.files("unweave.data") / "labels.json",
        resources.files("unweave.language") / "data" / "sounds.json",
    ]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _hash() -> str:
    return hashlib.sha256("\n".join(f"{name}\t{told}" for name, told in table().items()).encode()).hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(2)
    write_vectors()
