"""What a network is told of a sound: its name alone, or how it sounds as well, by whoever knows.

The kinds of prompt that OpenSep compares (Mahmud and Marculescu, EMNLP 2024, section 3.2 and table 4). A
recipe says which one its network learns from, and evaluation asks in any of them.
"""

import warnings
from dataclasses import dataclass

from unweave.data.mixtures import descriptions
from unweave.encoders.minilm import MiniLM, wording
from unweave.errors import ChatError, UnknownNameError, UsageError
from unweave.language import chat as chats
from unweave.language.acoustics import told
from unweave.language.chat import Chat
from unweave.language.knowledge import Knowledge
from unweave.types import Query

# Whoever is asked, and with which prompt: five worked examples stand in one and none in the other.
ASKED = {"zero-shot": "knowledge-zero-shot", "five-shot": "knowledge"}
KINDS = ("mixed", "name", "table", *ASKED)


@dataclass(frozen=True)
class PromptConfig:
    """How sounds are asked for.

    "mixed" is what the shipped weights know: in training all ways of `data.mixtures.Labels.wording`, later
    the name, followed by how it sounds where the name was not trained on. "name" is the name alone.
    "table" is the name and how it sounds, from the tables that come along; "zero-shot" and "five-shot" the
    same from a chat.
    """

    kind: str = "mixed"  # one of KINDS
    chat: str = ""  # which chat the last two ask, a spec of `chat.load`

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("kind of prompt", self.kind, KINDS)
        if (self.kind in ASKED) != bool(self.chat):
            raise UsageError(
                f"prompts of the kinds {' and '.join(ASKED)} want a chat, {chats.KINDS}, others none; got "
                f"{self.kind!r} with {self.chat!r}"
            )


class Prompts:
    """The prompts of one kind; what a chat answered is kept on disk, see `chat.ask`."""

    def __init__(self, config: PromptConfig, encoder: MiniLM, chat: Chat | None = None) -> None:
        """Make them ready.

        Args:
            config: which kind.
            encoder: finds the name in the table that is nearest to one that it lacks.
            chat: asked in the place of the one that `config` names.

        Raises:
            ChatError: the extra is not installed, or a local model is not there.
        """
        self.kind = config.kind
        self.knowledge = Knowledge(encoder)
        self._chat = chat or (chats.load(config.chat) if config.kind in ASKED else None)
        self._found: dict[str, tuple[str, ...]] = {}

    def ways(self, label: str) -> tuple[str, ...]:
        """Every prompt for a label, the usual one first; training knows several descriptions of its labels.

        A name of which a chat knows nothing is warned of (UserWarning) and goes alone.
        """
        if self.kind in ("mixed", "name"):
            return (label,)
        if label not in self._found:
            if self.kind == "table":
                sounds = descriptions(label) or (self.knowledge.sounds_like(label),)
            else:
                sounds = (self._answered(label),)
            self._found[label] = tuple(wording(Query(label, sound)) for sound in sounds)
        return self._found[label]

    def of(self, query: Query) -> str:
        """What a network is told of a query; what the query itself says of the sound goes first."""
        if query.sounds_like:
            return wording(query)
        if self.kind in ("mixed", "table"):
            return self.knowledge.enriched(query, always=self.kind == "table")
        return self.ways(query.text.strip())[0]

    def _answered(self, label: str) -> str:
        if self._chat is None:
            raise UsageError(f"prompts of the kind {self.kind!r} want a chat, {chats.KINDS}")
        try:
            return told(self._chat, label, ASKED[self.kind]).sentence()
        except ChatError as error:
            warnings.warn(f"{label!r} is asked for by name alone: {error}", stacklevel=3)
            return ""
