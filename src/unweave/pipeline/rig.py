"""What does the work: an engine that separates, and ears that say what there is, and whether it was found."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unweave import hub, separators
from unweave.pipeline.presence import Presence
from unweave.types import Audio, Heard, Query, Separator

if TYPE_CHECKING:
    from torch import Tensor

    from unweave.language.chat import Chat
    from unweave.listen.tagger import Impression

LISTENER = "listener"  # the ears that come along


class Ears(Protocol):
    """A listener that can be asked about words, and about recordings of any length."""

    sample_rate: int  # Hz it works at

    def follow(self, blocks: Iterable[Tensor], sample_rate: int) -> Impression:
        """Successive (C, any t) pieces of a recording at its own rate -> what there is to say of it."""
        ...

    def heard(self, impression: Impression, labels: Sequence[str] | None = None) -> list[Heard]:
        """What sounds and when, most certain first; of `labels`, or of everything the listener knows."""
        ...

    def hear(self, audio: Audio) -> list[Heard]:
        """What sounds in a clip and when, most certain first."""
        ...

    def present(
        self, impression: Impression, labels: Sequence[str], start: float = 0.0, end: float | None = None
    ) -> Tensor:
        """(K,) chance that each label sounds somewhere between `start` and `end`, seconds."""
        ...

    def alike(self, one: str, other: str) -> float:
        """How near two names are in meaning, -1..1."""
        ...


class Sentences(Protocol):
    """A captioner: says in sentences what there is to hear."""

    def follow(self, blocks: Iterable[Tensor], sample_rate: int) -> list[Heard]:
        """Successive (C, any t) pieces of a recording at its own rate -> sentences, in the order of time."""
        ...


@dataclass(frozen=True)
class Rig:
    """An engine with ears, and what the two are called in a sidecar.

    Without ears nothing can be found by itself, and no stem is silenced for not being there.
    """

    separator: Separator
    model: str = ""  # published name or file of the engine; "" where the caller brought it
    ears: Ears | None = None
    listener: str = ""  # published name or file of the ears
    presence: Presence | None = None  # fitted for the two; None: the one that comes along
    captions: Sentences | None = None  # names sounds beside the ears, where no sound is asked for
    chat: Chat | None = None  # reads the captions, and tells how sounds sound that no table knows
    beside: tuple[str, ...] = ()  # what these two are called in a sidecar

    def told(self, query: Query) -> str:
        """What the engine listens for: the words and what it knows of them; "" if it does not say."""
        tell = getattr(self.separator, "told", None)  # not every engine works with words
        return str(tell(query)) if tell is not None and query.text.strip() else ""


def load(
    model: str = hub.DEFAULT,
    device: str = "auto",
    listener: str | None = LISTENER,
    captioner: str = "",
    chat: str = "",
) -> Rig:
    """An engine and ears by name.

    Args:
        model: a published name, or a .safetensors file.
        device: "auto", "cpu", "cuda", ...; of both.
        listener: a published name, or a .safetensors file; None or "none" for no ears.
        captioner: as `listen.captioners.load` wants it; "" or "none" for none.
        chat: as `language.chat.load` wants it; "" or "none" for none.

    Raises:
        UnknownNameError: no such name.
        ModelError: weights are missing, damaged or of another network.
        UsageError: a captioner or a chat that is named in a way that cannot be read.
        DeviceError: no such device.
    """
    separator = separators.load(model, device)
    if listener in (None, "", "none"):
        return Rig(separator, model)
    from unweave.language import chat as chats
    from unweave.listen import captioners, tagger

    place, _ = separators.choose_device(device)
    return Rig(
        separator,
        model,
        tagger.load(str(listener), place),
        str(listener),
        captions=None if captioner in ("", "none") else captioners.load(captioner, place),
        chat=chats.load(chat),
        beside=tuple(name for name in (captioner, chat) if name not in ("", "none")),
    )


@functools.lru_cache(maxsize=2)
def loaded(model: str, device: str) -> Rig:
    """As `load`, with the ears that come along; the last two are kept, because loading takes its time."""
    return load(model, device)


def ready(model: str | Path | Separator | Rig, device: str) -> Rig:
    """`model` ready to work: named weights get the ears that come along, a loaded separator gets none."""
    if isinstance(model, Rig):
        return model
    if isinstance(model, str | Path):
        return loaded(str(model), device)
    return Rig(model)
