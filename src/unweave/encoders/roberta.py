"""Words to tokens with RoBERTa (Liu et al., 2019), the text encoder that OpenSep is published with.

Any model of its kind will do, from a folder or from the model hub; `BASE` is the published one, of 768
features. It reads 512 word pieces, twice as many as all-MiniLM-L6-v2, and tells capitals from small letters.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unweave.encoders.minilm import wording
from unweave.encoders.published import network, read
from unweave.errors import ModelError, QueryError
from unweave.types import Query

BASE = "FacebookAI/roberta-base@e2da8e2f811d1448a5b465c236feacd80ffbac7b"
KEPT = 20_000  # texts that are remembered; of 30 word pieces each, 1.8 GB


class Roberta:
    """The encoder, frozen; the texts asked for last are remembered. Implements `TextEncoder`."""

    def __init__(self, source: str | Path, revision: str | None = None, device: str = "cpu") -> None:
        """Read the model.

        Args:
            source: a folder with config.json, model.safetensors and tokenizer.json, or a name on the hub.
            revision: the commit on the hub, 40 hexadecimal digits; none for a folder.
            device: as torch names it.

        Raises:
            ModelError: the files are missing, damaged, or of another model.
            UsageError: a hub name without a commit, or a folder with one.
        """
        from transformers import PreTrainedTokenizerFast, RobertaModel

        # Before the weights, which are a hundred times as large.
        self._tokenizer: Any = read(PreTrainedTokenizerFast, source, revision)
        self._model = network(RobertaModel, source, revision, device, add_pooling_layer=False)
        config = self._model.config
        if len(self._tokenizer) > config.vocab_size:
            raise ModelError(
                f"the tokenizer of {source} knows {len(self._tokenizer)} word pieces, its model "
                f"{config.vocab_size}; they are of two models"
            )
        self.dim = int(config.hidden_size)
        # Positions are counted from behind that of the padding.
        self.longest = int(config.max_position_embeddings) - int(config.pad_token_id) - 1
        self.device = device
        self._known: dict[str, Tensor] = {}

    def encode(self, queries: Sequence[Query]) -> Tensor:
        """Q queries -> (Q, dim) unit vectors: the mean of each text's tokens."""
        tokens, mask = self.tokens([wording(query) for query in queries])
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=-1)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The hidden state of every word piece.

        Returns:
            (Q, L, dim) states, zero where a text has ended, and the (Q, L) bool mask of real ones; L is the
            length of the longest text.

        Raises:
            QueryError: a text is longer than the encoder reads; nothing is cut away unsaid.
        """
        # One by one: the shape of a batch changes the last digits of the answer.
        states = [self._state(text) for text in texts]
        longest = max((len(state) for state in states), default=0)
        padded = torch.zeros(len(states), longest, self.dim, device=self.device)
        mask = torch.zeros(len(states), longest, dtype=torch.bool, device=self.device)
        for row, state in enumerate(states):
            padded[row, : len(state)] = state
            mask[row, : len(state)] = True
        return padded, mask

    def remember(self, texts: Sequence[str]) -> None:
        """Encode many new texts at once, several times as fast as `tokens` would; for training."""
        by_length: dict[int, list[tuple[str, list[int]]]] = {}
        for text in dict.fromkeys(texts):
            if text not in self._known:
                pieces = self._pieces(text)
                by_length.setdefault(len(pieces), []).append((text, pieces))
        for alike in by_length.values():
            states = self._states([pieces for _, pieces in alike])
            for (text, _), state in zip(alike, states, strict=True):
                self._keep(text, state.clone())

    def reads(self, text: str) -> bool:
        """Whether a text is short enough."""
        return len(self._tokenizer(text.strip())["input_ids"]) <= self.longest

    def _state(self, text: str) -> Tensor:
        if text not in self._known:
            self._keep(text, self._states([self._pieces(text)])[0])
        return self._known[text]

    def _keep(self, text: str, state: Tensor) -> None:
        # Drawn prompts of pairs never end: what was asked for first makes room.
        if len(self._known) >= KEPT:
            del self._known[next(iter(self._known))]
        self._known[text] = state

    def _pieces(self, text: str) -> list[int]:
        pieces: list[int] = self._tokenizer(text.strip())["input_ids"]
        if len(pieces) > self.longest:
            raise QueryError(
                f"the query {text[:20]!r}... is {len(pieces)} word pieces long, the text encoder reads "
                f"{self.longest}; name one sound in a few words"
            )
        return pieces

    @torch.no_grad()
    def _states(self, pieces: list[list[int]]) -> Tensor:
        """Texts of one length in word pieces -> (Q, L, dim)."""
        ids = torch.tensor(pieces, device=self.device)
        states: Tensor = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return states
