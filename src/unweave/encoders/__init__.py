"""Queries to vectors and tokens: the text side of every engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unweave.types import QueryEncoder

if TYPE_CHECKING:
    from torch import Tensor


class TextEncoder(QueryEncoder, Protocol):
    """Words to tokens, for networks that attend to them."""

    def tokens(self, texts: Sequence[str]) -> "tuple[Tensor, Tensor]":
        """Q texts -> (Q, L, dim) states, zero where a text has ended, and the (Q, L) bool mask of real ones.

        Raises:
            QueryError: a text is longer than the encoder reads; nothing is cut away unsaid.
        """
        ...

    def remember(self, texts: Sequence[str]) -> None:
        """Encode many new texts at once, several times as fast as `tokens` would; for training."""
        ...

    def reads(self, text: str) -> bool:
        """Whether a text is short enough."""
        ...


def load(name: str, device: str = "cpu") -> TextEncoder:
    """The text encoder that a network's config names.

    Args:
        name: "minilm"; or a RoBERTa: its folder, or NAME@COMMIT of the model hub.
        device: as torch names it.

    Raises:
        ModelError: it is not there, damaged, or of another kind.
        UsageError: a hub name without its commit.
    """
    if name == "minilm":
        from unweave.encoders.minilm import MiniLM

        return MiniLM(device)
    from unweave.encoders.roberta import Roberta

    source, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    return Roberta(source, revision or None, device)
