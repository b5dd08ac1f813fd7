"""Embedders: the shipped one against its network, published models in their real file format, loaded."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from unweave.errors import ModelError, QueryError, UnknownNameError, UsageError
from unweave.evaluate.metrics.embedders import Own, load
from unweave.evaluate.metrics.pretrained import AudioLanguageModel, Clap, Tagger, windows
from unweave.signal.stft import stft
from unweave.types import Query

DATA = Path(__file__).parent / "data"
CLIPS = ("dog-barking", "rain", "speech", "alto-saxophone", "clock-ticking")
RATE = 32_000
NOISE = torch.randn(24_000, generator=torch.Generator().manual_seed(0)) * 0.1  # half a second at 48 kHz
COMMIT = "0" * 40


def clip(name: str) -> Tensor:
    samples, rate = soundfile.read(DATA / f"{name}.flac", dtype="float32")
    assert rate == RATE
    return torch.from_numpy(samples)


@pytest.fixture(scope="module")
def own() -> Own:
    return Own()


def save_clap(folder: Path, **audio_options: object) -> Path:
    """A CLAP that has learned nothing, in the published format; its window is one second."""
    from tokenizers import pre_tokenizers
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizerFast

    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = RobertaTokenizerFast(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    listener = ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc")
    audio = {"spec_size": 64, "num_mel_bins": 16, "hidden_size": 32, "patch_embeds_hidden_size": 8}
    audio |= {"depths": [1, 1, 1], "num_attention_heads": [1, 1, 2], "window_size": 4, **audio_options}
    text = {"vocab_size": len(letters), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "max_position_embeddings": 34}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12))
    network.save_pretrained(folder)
    ClapProcessor(listener, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture(scope="module")
def tagger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger that has learned nothing; its window is 0.655 s."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    tags = dict(enumerate(["speech", "dog", "rain", "silence"]))
    config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.max_length, config.num_mel_bins, config.id2label = 64, 32, tags
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ASTForAudioClassification(config)
        torch.nn.init.normal_(network.classifier.dense.weight)  # so that sounds differ in their tags
    folder = tmp_path_factory.mktemp("models") / "tagger"
    network.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Audio Flamingo 3 that has learned nothing; it hears 6 s, two at a time."""
    from tokenizers import pre_tokenizers
    from transformers import (
        AudioFlamingo3Config,
        AudioFlamingo3EncoderConfig,
        AudioFlamingo3ForConditionalGeneration,
        AudioFlamingo3Processor,
        Qwen2Config,
        Qwen2Tokenizer,
        WhisperFeatureExtractor,
    )

    letters = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sound>", "<|im_start|>", "<|im_end|>"]})
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
        "{% if part['type'] == 'audio' %}<sound>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>"
        "\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    hears = WhisperFeatureExtractor(feature_size=16, chunk_length=2, return_attention_mask=True)
    small = {"intermediate_size": 16, "num_attention_heads": 2}
    ear = AudioFlamingo3EncoderConfig(
        num_mel_bins=16, num_hidden_layers=1, hidden_size=16, max_source_positions=100, **small
    )
    words = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_key_value_heads=1, **small
    )
    config = AudioFlamingo3Config(
        audio_config=ear, text_config=words, audio_token_id=tokenizer.convert_tokens_to_ids("<sound>")
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AudioFlamingo3ForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("models") / "flamingo"
    network.save_pretrained(folder)
    AudioFlamingo3Processor(hears, tokenizer, template, max_audio_len=6).save_pretrained(folder)
    return folder


def test_windows_cover_all_and_are_full() -> None:
    assert [w.tolist() for w in windows(torch.arange(3), 3)] == [[0, 1, 2]]
    for length in (4, 10, 31, 97):
        parts = windows(torch.arange(length), 3)
        assert len(parts) == -(-length // 3)
        assert all(len(part) == 3 for part in parts)
        assert set(torch.cat(parts).tolist()) == set(range(length))


def test_own_hears_what_the_listener_hears(own: Own) -> None:
    """The logits of frames, weighed by level, are a rising straight line of our dot products."""
    network = own._network
    texts = ["dog", "rain on a roof", "a saxophone", "someone speaking", "a clock", "wind", "a car", "a bell"]
    sound = clip("dog-barking")[: 512 * 159]  # 160 spectra: 40 frames, nothing to pad
    encoder = network.encoder
    magnitude = stft(sound, encoder.config.fft_size, encoder.config.hop).abs()
    size = encoder.bands.sum(1)[:, None]
    features = encoder.features(
        (encoder.bands @ magnitude.square() / size)[None], (encoder.bands @ magnitude / size)[None]
    )
    directions, expected = network.read(own._encoder.encode([Query(text) for text in texts]))
    logits = network.score(network.judge(network.collect(features))[0], (directions, expected))
    heard = (10 ** (features[0, 0] / 2)).mean(0).view(40, 4).mean(1)
    fits = (logits - expected[:, None]) @ heard / heard.sum()

    ours = directions @ own.embed_audio(sound, RATE)
    assert np.corrcoef(ours.numpy(), fits.numpy())[0, 1] == pytest.approx(1, abs=1e-6)
    for text, vector in zip(texts, directions, strict=True):
        assert torch.allclose(own.embed_text(text), normalize(vector, dim=0), atol=1e-5)


def test_own_ranks_real_clips_far_above_chance(own: Own) -> None:
    sounds = torch.stack([own.embed_audio(clip(name), RATE) for name in CLIPS])
    words = torch.stack([own.embed_text(name.replace("-", " ")) for name in CLIPS])
    fits = sounds @ words.T
    right = fits.diagonal()
    wrong = fits[~torch.eye(len(CLIPS), dtype=torch.bool)]
    assert right.mean() - wrong.mean() > 0.25  # measured 0.47
    assert (fits.argmax(1) == torch.arange(len(CLIPS))).sum() >= 3  # measured 4 of 5


def test_own_vectors_are_units_whatever_gain_and_rate(own: Own) -> None:
    sound = clip("clock-ticking")
    vector = own.embed_audio(sound, RATE)
    assert vector.norm().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(own.embed_audio(sound / 64, RATE), vector, atol=1e-4)
    from unweave.audio import resample

    assert torch.dot(own.embed_audio(resample(sound, RATE, 44_100), 44_100), vector) > 0.98


def test_own_averages_windows_of_a_long_sound(own: Own) -> None:
    long = torch.cat([clip("rain")] * 3 + [clip("dog-barking")])  # 21.5 s: three windows
    starts = [0, (len(long) - 320_000) // 2, len(long) - 320_000]
    mean = torch.stack([own.embed_audio(long[start : start + 320_000], RATE) for start in starts]).mean(0)
    assert torch.allclose(own.embed_audio(long, RATE), normalize(mean, dim=0), atol=1e-5)
    assert [layer.shape[0] for layer in own.layers(long, RATE)] == [3, 3, 3, 3]


def test_own_layers_follow_the_network(own: Own) -> None:
    config = own._network.encoder.config
    frames = 1 + 48_000 // config.hop  # 94: not a multiple of the stride
    found = own.layers(clip("speech")[:48_000], RATE)
    for level, (layer, width) in enumerate(zip(found, config.widths, strict=True), 1):
        columns = -(-frames // 2**level)
        assert layer.shape == (1, config.bands // 2**level * columns, width)


def test_own_takes_a_weight_file(ears: Path) -> None:
    mine = Own(ears)
    assert mine.name == "own ears"
    assert mine.embed_audio(NOISE, 48_000).shape == mine.embed_text("dog").shape == (16,)
    with pytest.raises(ModelError, match="no weight file"):
        Own("nothing.safetensors")


def test_clap_is_the_published_model(clap_folder: Path) -> None:
    """Against ClapModel.forward, which reads sound and text and compares them itself."""
    from transformers import ClapModel, ClapProcessor

    theirs, processor = ClapModel.from_pretrained(clap_folder), ClapProcessor.from_pretrained(clap_folder)
    inputs = processor(text="dog barking", audio=NOISE.numpy(), sampling_rate=48_000, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.eval()(**inputs)
    mine = Clap(clap_folder)
    assert torch.allclose(mine.embed_audio(NOISE, 48_000), expected.audio_embeds[0], atol=1e-6)
    assert torch.allclose(mine.embed_text("dog barking"), expected.text_embeds[0], atol=1e-6)
    assert (mine.name, mine.sample_rate) == ("clap clap", 48_000)
    assert torch.dot(mine.embed_text("dog barking"), mine.embed_text("rain")) < 0.9999  # the text counts


def test_clap_averages_windows_and_never_crops_at_random(clap_folder: Path) -> None:
    mine = Clap(clap_folder)
    long = torch.cat([NOISE, 3 * NOISE.flip(0), torch.sin(torch.arange(60_000) * 0.05)])  # 2.25 s: 3 windows
    starts = [0, (len(long) - 48_000) // 2, len(long) - 48_000]
    parts = torch.stack([mine.embed_audio(long[start : start + 48_000], 48_000) for start in starts])
    assert torch.allclose(mine.embed_audio(long, 48_000), normalize(parts.mean(0), dim=0), atol=1e-5)
    assert torch.equal(mine.embed_audio(long, 48_000), mine.embed_audio(long, 48_000))


def test_clap_layers_are_the_stages(clap_folder: Path) -> None:
    """Tokens are merged four to one while channels double, and the last stage is what is pooled."""
    mine = Clap(clap_folder)
    stages = mine.layers(torch.cat([NOISE, NOISE, NOISE]), 48_000)
    assert [stage.shape for stage in stages] == [(2, 64, 16), (2, 16, 32), (2, 16, 32)]
    one = mine.layers(NOISE, 48_000)[-1][0]
    with torch.no_grad():
        pooled = mine._model.audio_model.audio_encoder.norm(one).mean(0)
        vector = normalize(mine._model.audio_projection(pooled), dim=0)
    assert torch.allclose(vector, mine.embed_audio(NOISE, 48_000), atol=1e-5)


def test_clap_refuses_a_text_it_would_cut(clap_folder: Path) -> None:
    mine = Clap(clap_folder)
    assert mine.embed_text("d" * 30).shape == (12,)  # with start and end 32 pieces
    with pytest.raises(QueryError, match="33 word pieces long, CLAP reads 32"):
        mine.embed_text("d" * 31)


def test_clap_with_fusion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hears random crops; use an unfused one"):
        Clap(save_clap(tmp_path, enable_fusion=True, fusion_type="aff_2d"))


def test_tagger_is_the_published_model(tagger_folder: Path) -> None:
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    theirs = ASTForAudioClassification.from_pretrained(tagger_folder).eval()
    hears = ASTFeatureExtractor.from_pretrained(tagger_folder)
    mine = Tagger(tagger_folder)
    assert mine.labels == ("speech", "dog", "rain", "silence")
    sound = NOISE[:8000]
    with torch.no_grad():
        logits = theirs(**hears(sound.numpy(), sampling_rate=16_000, return_tensors="pt")).logits[0]
    expected = logits.double().exp() / logits.double().exp().sum()
    assert torch.allclose(mine.tags(sound, 16_000).exp(), expected, atol=1e-6)
    assert mine.tags(NOISE[:10], 16_000).exp().sum().item() == pytest.approx(1)  # shorter than a frame


def test_tagger_averages_probabilities_over_windows(tagger_folder: Path) -> None:
    mine = Tagger(tagger_folder)
    size = 63 * 160 + 400  # 64 frames, the model's window
    sound = torch.cat([NOISE, torch.zeros(10_000)])  # 34,000 samples, four windows
    assert len(windows(sound, size)) == 4
    parts = torch.stack([mine.tags(part, 16_000) for part in windows(sound, size)])
    expected = parts.exp().mean(0).log()
    assert (expected - parts.mean(0)).abs().max() > 0.01  # neither the mean of logits nor any one window
    assert torch.allclose(mine.tags(sound, 16_000), expected, atol=1e-9)


def test_language_model_gives_what_its_word_classifier_reads(language_folder: Path) -> None:
    """The mean over positions commutes with the classifier, which is linear: compare mean logits."""
    from transformers import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor

    theirs = AudioFlamingo3ForConditionalGeneration.from_pretrained(language_folder).eval()
    processor = AudioFlamingo3Processor.from_pretrained(language_folder)
    mine = AudioLanguageModel(language_folder, prompt="What is this?")
    sound = NOISE.repeat(2)  # 3 s at 16 kHz: two pieces of two seconds
    content = [{"type": "audio", "audio": sound.numpy()}, {"type": "text", "text": "What is this?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    with torch.no_grad():
        logits = theirs(**inputs).logits[0]
    assert len(logits) == 75 + len("What is this?") + len("user\n\nassistant\n") + 3  # 25 tokens a second
    assert torch.allclose(theirs.lm_head(mine.embed_audio(sound, 16_000)), logits.mean(0), atol=1e-5)
    other = AudioLanguageModel(language_folder).embed_audio(sound, 16_000)
    assert not torch.allclose(other, mine.embed_audio(sound, 16_000), atol=1e-4)  # the prompt counts
    quiet = mine.embed_audio(sound * 0, 16_000)
    assert not torch.allclose(quiet, mine.embed_audio(sound, 16_000), atol=1e-4)  # and so does the sound


def test_language_model_refuses_what_it_would_cut(language_folder: Path) -> None:
    mine = AudioLanguageModel(language_folder)
    assert mine.embed_audio(torch.zeros(96_000), 16_000).shape == (24,)
    with pytest.raises(UsageError, match=r"7 s is longer than the 6 s .* cut it"):
        mine.embed_audio(torch.zeros(112_000), 16_000)


@pytest.mark.parametrize("kind", ["clap", "tagger", "flamingo"])
def test_what_is_missing_or_wrong_is_said(kind: str, tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"no folder .*config\.json and model\.safetensors"):
        load(kind, tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"cannot read a .*give a folder with config\.json"):
        load(kind, tmp_path)
    with pytest.raises(UsageError, match="wants the commit to use, 40 hexadecimal digits, got None"):
        load(kind)
    with pytest.raises(UsageError, match="got 'main'; branches move"):
        load(kind, "laion/clap-htsat-unfused", "main")
    with pytest.raises(UsageError, match=r"is a folder, which has no revision"):
        load(kind, tmp_path, COMMIT)


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot read a ClapProcessor from laion/clap-htsat-unfused"):
        load("clap", revision=COMMIT)


def test_damaged_or_foreign_weights_are_refused(
    clap_folder: Path, tagger_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(clap_folder / "model.safetensors")
    _copy(clap_folder, tmp_path / "cut", {"model.safetensors": b"cut short"})
    with pytest.raises(ModelError, match="cannot read a ClapModel"):
        Clap(tmp_path / "cut")
    _copy(clap_folder, tmp_path / "less", {})
    less = {name: tensor for name, tensor in weights.items() if name != "audio_projection.linear2.bias"}
    save_file(less, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 tensors of a ClapModel, 'audio_projection\.linear2\.bias'"
    ):
        Clap(tmp_path / "less")
    _copy(clap_folder, tmp_path / "pickle", {})
    (tmp_path / "pickle" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pickle" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot read a ClapModel"):
        Clap(tmp_path / "pickle")
    with pytest.raises(ModelError, match="Clap"):
        Clap(tagger_folder)


def test_load_knows_its_names(clap_folder: Path, ears: Path) -> None:
    assert load("own", str(ears)).name == "own ears"
    assert isinstance(load("clap", clap_folder), Clap)
    with pytest.raises(UnknownNameError, match="Did you mean 'clap'"):
        load("clapp")
    with pytest.raises(UsageError, match="no revision"):
        load("own", revision=COMMIT)
    for kind, source in (("ms-clap", None), ("clap", "microsoft/msclap")):
        with pytest.raises(ModelError, match="MS-CLAP is not in transformers"):
            load(kind, source)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.zeros(2, 10), r"one signal of shape \(time,\), got \(2, 10\)"),
        (torch.zeros(0), r"got \(0,\)"),
        (torch.tensor([0.0, torch.nan]), "NaN or infinity"),
    ],
)
def test_only_one_finite_signal_is_heard(own: Own, samples: Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        own.embed_audio(samples, RATE)


def test_the_shortest_sound_and_silence_have_vectors(
    own: Own, clap_folder: Path, tagger_folder: Path, language_folder: Path
) -> None:
    for sound in (torch.zeros(8000), torch.ones(1)):
        for embedder in (own, Clap(clap_folder), AudioLanguageModel(language_folder)):
            vector = embedder.embed_audio(sound, 48_000)
            assert bool(vector.isfinite().all())
            assert torch.equal(vector, embedder.embed_audio(sound, 48_000))
            assert cosine_similarity(vector, vector, dim=0).item() == pytest.approx(1)
        assert bool(Tagger(tagger_folder).tags(sound, 48_000).isfinite().all())


def _copy(folder: Path, to: Path, changed: dict[str, str | bytes]) -> None:
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        content = changed.get(file.name, file.read_bytes())
        (to / file.name).write_bytes(content if isinstance(content, bytes) else content.encode())
