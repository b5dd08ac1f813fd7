"""Words to vectors with the text side of LAION's CLAP, taken from a checkpoint that carries it.

Wu, Chen et al., "Large-scale contrastive language-audio pretraining with feature fusion and
keyword-to-caption augmentation", ICASSP 2023: RoBERTa, what it pools from the first token, and two linear
layers. The names of the tensors are those of laion_clap, where the text side is a `RobertaModel` of
transformers, as it is here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave.encoders.minilm import wording
from unweave.errors import ModelError, QueryError
from unweave.types import Query

HUB_NAME, HUB_REVISION = "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"
FOLDER = "roberta-base"  # of the tokenizer, beside the checkpoint; where there is none the hub is asked
# The sound side, and layers that only training used.
UNUSED = ("audio_branch.", "audio_transform.", "audio_projection.", "text_transform.", "logit_scale_")
COUNTED = "text_branch.embeddings.position_ids"  # 0, 1, 2, ...: older transformers saved it, newer do not
HEAD = 64  # channels of one attention head of RoBERTa


class ClapText:
    """The text side of CLAP; every text is encoded once and remembered. Implements `QueryEncoder`.

    Args:
        tensors: of a CLAP, by their names in laion_clap; its sizes are read off them.
        folder: that holds RoBERTa's tokenizer.json; where there is no such folder it is read from the hub, at
            one commit.
        device: as torch names it.

    Raises:
        ModelError: a tensor is missing, has another shape or is not known, or the tokenizer is neither in the
            folder nor to be had from the hub.
    """

    def __init__(self, tensors: Mapping[str, Tensor], folder: Path, device: str = "cpu") -> None:
        kept = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(UNUSED) and name != COUNTED
        }
        model, self.dim = _built(kept)
        try:
            model.load_state_dict(kept, strict=True)
        except RuntimeError as error:
            raise ModelError(f"the checkpoint holds no CLAP with RoBERTa: {error}") from error
        self._model = model.to(device).eval().requires_grad_(False)
        config: Any = model["text_branch"].config
        self._tokenizer = _tokenizer(folder, config.vocab_size)
        self._longest = config.max_position_embeddings - config.pad_token_id - 1
        self.device = device
        self._known: dict[str, Tensor] = {}

    def encode(self, queries: Sequence[Query]) -> Tensor:
        """Q queries -> (Q, D) unit vectors. Texts are read as they are, capital letters included.

        Raises:
            QueryError: a text is longer than the encoder reads; nothing is cut away unsaid.
        """
        texts = [wording(query) for query in queries]
        for text in texts:
            if text not in self._known:
                self._known[text] = self._vector(text)
        vectors = [self._known[text] for text in texts]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.dim, device=self.device)

    @torch.no_grad()
    def _vector(self, text: str) -> Tensor:
        pieces = self._tokenizer.encode(text).ids
        if len(pieces) > self._longest:
            raise QueryError(
                f"the query {text[:20]!r}... is {len(pieces)} word pieces long, CLAP reads {self._longest}; "
                f"name one sound in a few words"
            )
        # Without padding, which the published code adds and masks.
        ids = torch.tensor([pieces], device=self.device)
        state = self._model["text_branch"](ids, attention_mask=torch.ones_like(ids)).pooler_output
        vector: Tensor = nn.functional.normalize(self._model["text_projection"](state)[0], dim=-1)
        return vector


def _built(tensors: Mapping[str, Tensor]) -> tuple[nn.ModuleDict, int]:
    """The network of these tensors' sizes, not filled yet, and the size of its vectors."""
    from transformers.models.roberta import RobertaConfig, RobertaModel

    layers = {name.split(".")[3] for name in tensors if name.startswith("text_branch.encoder.layer.")}
    try:
        vocabulary, width = tensors["text_branch.embeddings.word_embeddings.weight"].shape
        config = RobertaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=len(layers),
            num_attention_heads=max(1, width // HEAD),
            intermediate_size=len(tensors["text_branch.encoder.layer.0.intermediate.dense.weight"]),
            max_position_embeddings=len(tensors["text_branch.embeddings.position_embeddings.weight"]),
            type_vocab_size=len(tensors["text_branch.embeddings.token_type_embeddings.weight"]),
            layer_norm_eps=1e-5,  # roberta-base's, which shows in no tensor
        )
        dim = len(tensors["text_projection.2.weight"])
    except KeyError as error:
        raise ModelError(
            f"the checkpoint has no text encoder, CLAP with RoBERTa: {error} is missing; give the checkpoint "
            f"as it was published, with its query encoder"
        ) from error
    projection = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
    return nn.ModuleDict({"text_branch": RobertaModel(config), "text_projection": projection}), dim


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    """RoBERTa's, from the folder, or else from the hub; it must have as many word pieces as the weights."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not folder.is_dir():
        try:
            path = Path(hf_hub_download(HUB_NAME, path.name, revision=HUB_REVISION))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ModelError(
                f"CLAP reads words with the tokenizer of {HUB_NAME}, which is neither in {folder} nor to be "
                f"had from the hub; put its {path.name} into that folder"
            ) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(
            f"{path} is missing or is no tokenizer ({error}); put {path.name} of {HUB_NAME} there"
        ) from error
    if tokenizer.get_vocab_size() != vocabulary:
        raise ModelError(
            f"{path} knows {tokenizer.get_vocab_size()} word pieces, the checkpoint's text encoder "
            f"{vocabulary}; put {path.name} of {HUB_NAME} there"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
