"""Published models as embedders, through transformers: CLAP, an audio tagger, an audio language model.

Weights are read from safetensors only, from a folder without touching the network, or from the model hub at
one commit. All answer in evaluation mode, one signal at a time and without a random draw, so that the same
sound gets the same numbers whatever stands beside it. Sounds are resampled with `unweave.audio.resample`;
those longer than a model's window are cut into windows of that length, spread evenly from start to end.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from unweave.audio import resample
from unweave.encoders.published import network, read, title
from unweave.errors import ModelError, QueryError, UsageError

CLAP = "laion/clap-htsat-unfused"
TAGGER = "MIT/ast-finetuned-audioset-10-10-0.4593"
LANGUAGE_MODEL = "nvidia/audio-flamingo-3-hf"
WINDOW = 10.0  # seconds; CLAP and the tagger were trained on clips of this length
PROMPT = "Describe the sound in one sentence."

_FRAME, _HOP = 400, 160  # samples of the tagger's spectrogram, fixed in its feature extractor


class Clap:
    """LAION's CLAP, the sound and the text side; `ClapModel` and `ClapProcessor` of transformers.

    Wu, Chen et al., "Large-scale contrastive language-audio pretraining with feature fusion and
    keyword-to-caption augmentation", ICASSP 2023. A sound shorter than the model's window (10 s) is repeated
    to fill it, as the model was trained. Texts are read as they are, without a template around them.
    Implements `SoundAndTextEmbedder` and `LayeredEmbedder`.

    Args:
        source: a folder that holds config, safetensors and processor files, or a name on the model hub.
        revision: the commit on the hub, 40 hexadecimal digits; none for a folder. There is no default: the
            main branch of the published model has no safetensors, so name a commit that has.
        device: as torch names it.

    Raises:
        ModelError: the files are missing, damaged, of another model, or of a "fused" CLAP, whose answer for
            a long sound depends on random crops.
        UsageError: a hub name without a commit.
    """

    def __init__(self, source: str | Path = CLAP, revision: str | None = None, device: str = "cpu") -> None:
        from transformers import ClapModel, ClapProcessor

        processor = read(ClapProcessor, source, revision)
        self._listener, self._tokenizer = processor.feature_extractor, processor.tokenizer
        self._model = network(ClapModel, source, revision, device).float()
        if self._model.config.audio_config.enable_fusion:
            raise ModelError(
                f"{source} is a CLAP with feature fusion, which hears random crops; use an unfused one, "
                f"for example {CLAP}"
            )
        self.name, self.device = title("clap", source, revision), device
        self.sample_rate = int(self._listener.sampling_rate)  # Hz, 48 kHz as published

    @torch.no_grad()
    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (D,) unit vector: the mean of the unit vectors of its windows."""
        heard = [self._heard(window).pooler_output for window in self._windows(samples, sample_rate)]
        vectors = normalize(self._model.audio_projection(torch.cat(heard)), dim=-1)
        return normalize(vectors.mean(0), dim=-1).cpu()

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """A text -> (D,) unit vector.

        Raises:
            QueryError: the text is longer than the model reads; nothing is cut away unsaid.
        """
        pieces = self._tokenizer(text, return_tensors="pt").to(self.device)
        config = self._model.config.text_config
        count, longest = (
            pieces["input_ids"].shape[1],
            config.max_position_embeddings - config.pad_token_id - 1,
        )
        if count > longest:
            raise QueryError(
                f"the text {text[:20]!r}... is {count} word pieces long, CLAP reads {longest}; shorten it"
            )
        state = self._model.text_model(
            input_ids=pieces["input_ids"], attention_mask=pieces["attention_mask"]
        ).pooler_output
        return normalize(self._model.text_projection(state)[0], dim=-1).cpu()

    @torch.no_grad()
    def layers(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        """(T,) -> one (W, L, C) per stage of the audio transformer: W windows, L tokens, C channels.

        As in ZeroSep's evaluation, a stage is taken after its tokens have been merged for the next one.
        """
        stages = [
            self._heard(window, output_hidden_states=True).hidden_states[1:]  # [0] has seen no stage
            for window in self._windows(samples, sample_rate)
        ]
        return [torch.cat(maps).flatten(2).mT.cpu() for maps in zip(*stages, strict=True)]

    def _windows(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        return windows(one_signal(samples, sample_rate, self.sample_rate), self._listener.nb_max_samples)

    def _heard(self, window: Tensor, **options: bool) -> Any:
        # "rand_trunc" draws a crop for sounds above the window only, and windows are never above.
        features = self._listener(
            window.numpy(), truncation="rand_trunc", sampling_rate=self.sample_rate, return_tensors="pt"
        )
        return self._model.audio_model(input_features=features["input_features"].to(self.device), **options)


class Tagger:
    """A transformer that tags sounds with the 527 classes of AudioSet; `ASTForAudioClassification`.

    Gong, Chung and Glass, "AST: Audio spectrogram transformer", Interspeech 2021. It was trained with one
    sigmoid per tag, as PANNs were; the distribution here is the softmax over its logits all the same, which
    is what the KL divergence of AudioGen and audioldm_eval is taken of. Implements `AudioTagger`.

    Args:
        source: a folder that holds config, safetensors and feature extractor, or a name on the model hub.
        revision: the commit on the hub, 40 hexadecimal digits; none for a folder.
        device: as torch names it.

    Raises:
        ModelError: the files are missing, damaged, or of another model.
        UsageError: a hub name without a commit.
    """

    def __init__(self, source: str | Path = TAGGER, revision: str | None = None, device: str = "cpu") -> None:
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        self._listener = read(ASTFeatureExtractor, source, revision)
        self._model = network(ASTForAudioClassification, source, revision, device).float()
        self.name, self.device = title("tagger", source, revision), device
        self.sample_rate = int(self._listener.sampling_rate)  # Hz, 16 kHz as published
        self.labels = tuple(
            self._model.config.id2label[index] for index in range(self._model.config.num_labels)
        )

    @torch.no_grad()
    def tags(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (K,) float64 log-probabilities of the `labels`; over windows, of the mean probability.

        What ends before the model's window is followed by the feature extractor's padding, as in training.
        """
        whole = one_signal(samples, sample_rate, self.sample_rate)
        whole = pad(whole, (0, max(0, _FRAME - len(whole))))  # one frame at least
        longest = (self._listener.max_length - 1) * _HOP + _FRAME  # or the extractor would drop the rest
        parts = windows(whole, min(round(WINDOW * self.sample_rate), longest))
        logs = torch.cat([self._logits(part) for part in parts]).cpu().double().log_softmax(-1)
        return torch.logsumexp(logs - torch.tensor(len(parts)).double().log(), dim=0)

    def _logits(self, window: Tensor) -> Tensor:
        features = self._listener(window.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        logits: Tensor = self._model(input_values=features["input_values"].to(self.device)).logits
        return logits


class AudioLanguageModel:
    """Audio Flamingo 3 as an embedder, for AFSim; `AudioFlamingo3ForConditionalGeneration` of transformers 5.

    Goel et al., "Audio Flamingo 3: advancing audio intelligence with fully open large audio language models",
    2025. AFSim was published with the first Audio Flamingo, which transformers does not have, so the numbers
    are not those of that paper. Implements `AudioEmbedder`.

    Args:
        source: a folder that holds config, safetensors and processor files, or a name on the model hub.
        revision: the commit on the hub, 40 hexadecimal digits; none for a folder.
        device: as torch names it; the weights stay in the type they were saved in.
        prompt: what is asked of every sound, after it.

    Raises:
        ModelError: the files are missing, damaged, or of another model, or transformers is too old.
        UsageError: a hub name without a commit.
    """

    def __init__(
        self,
        source: str | Path = LANGUAGE_MODEL,
        revision: str | None = None,
        device: str = "cpu",
        prompt: str = PROMPT,
    ) -> None:
        try:
            from transformers import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor
        except ImportError as error:
            raise ModelError(
                "this transformers does not have Audio Flamingo 3; run: pip install 'transformers>=5'"
            ) from error

        self._processor = read(AudioFlamingo3Processor, source, revision)
        self._model = network(AudioFlamingo3ForConditionalGeneration, source, revision, device, dtype="auto")
        self.name, self.device = title("audio language model", source, revision), device
        self.prompt = prompt
        self.sample_rate = int(self._processor.feature_extractor.sampling_rate)  # Hz, 16 kHz as published

    @torch.no_grad()
    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """(T,) -> (D,): what the last layer hands to the word classifier, averaged over all positions.

        The positions are those of the whole prompt: the sound, the question, and the chat's own marks.

        Raises:
            UsageError: the sound is longer than the model hears; it would be cut unsaid.
        """
        sound = one_signal(samples, sample_rate, self.sample_rate)
        longest = self._processor.max_audio_len
        if len(sound) > longest * self.sample_rate:
            raise UsageError(
                f"a sound of {len(sound) / self.sample_rate:.0f} s is longer than the {longest} s that the "
                f"audio language model hears; cut it"
            )
        content = [{"type": "audio", "audio": sound.numpy()}, {"type": "text", "text": self.prompt}]
        words = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        inputs = self._processor(text=words, audio=sound.numpy(), sampling_rate=self.sample_rate)
        inputs = inputs.to(self.device, self._model.dtype)  # the type of the floating-point ones only
        state = self._model(**inputs, output_hidden_states=True, logits_to_keep=1).hidden_states[-1]
        mean: Tensor = state[0].float().mean(0).cpu()
        return mean


def windows(samples: Tensor, length: int) -> list[Tensor]:
    """(T,) -> windows of `length` samples, as few as cover it, evenly spread; (T,) itself if it fits in one.

    All are full, so that the end of a sound is never looked at through a window of mostly padding.

    >>> [window.tolist() for window in windows(torch.arange(7), 3)]
    [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    """
    if len(samples) <= length:
        return [samples]
    count = -(-len(samples) // length)
    starts = [index * (len(samples) - length) // (count - 1) for index in range(count)]
    return [samples[start : start + length] for start in starts]


def one_signal(samples: Tensor, sample_rate: int, wanted_rate: int) -> Tensor:
    """(T,) finite samples -> (L,) float32 at `wanted_rate`, on the CPU.

    Raises:
        UsageError: not one signal, empty, or with samples that are no numbers.
    """
    if samples.ndim != 1 or not samples.numel():
        raise UsageError(
            f"an embedder wants one signal of shape (time,), got {tuple(samples.shape)}; give it one channel"
        )
    if not bool(samples.isfinite().all()):
        raise UsageError(
            "an embedder wants finite samples, got NaN or infinity; find out where they come from"
        )
    changed = resample(samples.detach().cpu().float(), sample_rate, wanted_rate)
    return changed if len(changed) else torch.zeros(1)  # one sample, and its rate was more than halved
