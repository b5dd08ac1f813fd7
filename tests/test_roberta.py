"""The larger text encoder: a small one in the real format answers as transformers does, padding left out."""

from pathlib import Path

import pytest
import torch

from unweave import encoders
from unweave.encoders import roberta
from unweave.encoders.roberta import BASE, Roberta
from unweave.errors import ModelError, QueryError, UsageError
from unweave.types import Query

TEXTS = ["Rain", "a dog barking: sharp midrange bursts", "rain and wind"]


def save_roberta(folder: Path, reads: int = 40, dim: int = 16) -> Path:
    """A RoBERTa of two layers, saved as the published one is: with its tokenizer and a head, no pooler."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(fast),
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=reads + 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("roberta"))


def test_states_are_those_of_the_model_and_padding_is_masked(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import PreTrainedTokenizerFast, RobertaForMaskedLM

    encoder = encoders.load(str(folder))
    assert capfd.readouterr() == ("", ""), "the head that is left out is nobody's business"
    tokens, known = encoder.tokens(TEXTS)
    model = RobertaForMaskedLM.from_pretrained(folder).eval()
    pieces = PreTrainedTokenizerFast.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**pieces, output_hidden_states=True).hidden_states[-1]
    assert encoder.dim == 16
    assert torch.equal(known, pieces["attention_mask"].bool())
    assert known.sum(1).tolist() != [known.shape[1]] * 3, "no text is padded, so nothing is tested"
    assert torch.allclose(tokens[known], expected[known], atol=1e-5)
    assert not tokens[~known].any()


def test_capitals_count_and_the_space_around_does_not(folder: Path) -> None:
    encoder = Roberta(folder)
    one, other, spaced = encoder.encode([Query("Rain"), Query("rain"), Query("  Rain\n")])
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.equal(one, spaced)
    assert one.norm().item() == pytest.approx(1, abs=1e-5)


def test_a_text_is_read_whole_or_refused(folder: Path) -> None:
    encoder = Roberta(folder)
    assert encoder.longest == 40
    longest = "z" * 38  # and the two pieces around a text
    assert encoder.reads(longest)
    assert encoder.tokens([longest])[1].sum() == 40
    assert not encoder.reads(longest + "z")
    with pytest.raises(QueryError, match="41 word pieces long, the text encoder reads 40"):
        encoder.tokens([longest + "z"])


def test_what_was_remembered_is_what_is_encoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roberta, "KEPT", 2)  # fewer than texts: the first has to make room
    quick, slow = Roberta(folder), Roberta(folder)
    quick.remember(TEXTS)
    assert torch.allclose(quick.tokens(TEXTS)[0], slow.tokens(TEXTS)[0], atol=1e-5)
    assert len(quick._known) == 2


def test_other_models_and_moving_names_are_refused(folder: Path, tmp_path: Path) -> None:
    from unweave.encoders import minilm

    assert encoders.load("minilm").dim == 384
    with pytest.raises(UsageError, match="the commit to use"):
        encoders.load(BASE.partition("@")[0])
    with pytest.raises(ModelError):
        encoders.load(str(minilm.folder()))
    with pytest.raises(ModelError, match="no folder"):
        encoders.load(str(tmp_path / "nothing"))
    whole = (folder / "model.safetensors").read_bytes()
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        encoders.load(str(tmp_path))
