"""Captioners that have learned nothing, saved in the format in which real ones are published."""

from pathlib import Path

import torch


def letters(first: list[str]) -> dict[str, int]:
    from tokenizers import pre_tokenizers

    return {letter: i for i, letter in enumerate([*first, *sorted(pre_tokenizers.ByteLevel.alphabet())])}


def loud(network: torch.nn.Module) -> torch.nn.Module:
    """Weights so large that what is said depends on what is heard."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in network.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.4)
    return network


def save_whisper(folder: Path) -> Path:
    """A Whisper that has learned nothing, in the published format; it hears 8 s."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    tokenizer = WhisperTokenizer(vocab=letters(["<|endoftext|>"]), merges=[])
    marks = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    start, end = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|endoftext|>"])
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=400,
        max_target_positions=128,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    network = loud(WhisperForConditionalGeneration(config))
    # As careless as published settings are: they ask for draws, and for a length made for transcripts.
    network.generation_config = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        top_p=0.9,
        max_length=20,
        decoder_start_token_id=start,
        eos_token_id=end,
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=8).save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}AUDIO{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>"
    "\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_chat(folder: Path, kind: str) -> Path:
    """A Qwen2-Audio or an Audio Flamingo 3 that has learned nothing; it hears 8 s."""
    import transformers as tf

    mark = "<|AUDIO|>" if kind == "qwen2-audio" else "<sound>"
    tokenizer = tf.Qwen2Tokenizer(vocab=letters(["<|endoftext|>"]), merges=[])
    extra = [mark, "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": extra})
    hears = tf.WhisperFeatureExtractor(feature_size=16, chunk_length=8, return_attention_mask=True)
    words = tf.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    size = {"num_mel_bins": 16, "max_source_positions": 400}
    if kind == "qwen2-audio":
        ear = tf.Qwen2AudioEncoderConfig(
            **size, d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16
        )
        config = tf.Qwen2AudioConfig(
            audio_config=ear, text_config=words, audio_token_index=tokenizer.convert_tokens_to_ids(mark)
        )
        network = tf.Qwen2AudioForConditionalGeneration(config)
        template = TEMPLATE.replace("AUDIO", f"<|audio_bos|>{mark}<|audio_eos|>")
        processor = tf.Qwen2AudioProcessor(hears, tokenizer, template)
    else:
        ear = tf.AudioFlamingo3EncoderConfig(
            **size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        config = tf.AudioFlamingo3Config(
            audio_config=ear, text_config=words, audio_token_id=tokenizer.convert_tokens_to_ids(mark)
        )
        network = tf.AudioFlamingo3ForConditionalGeneration(config)
        processor = tf.AudioFlamingo3Processor(
            hears, tokenizer, TEMPLATE.replace("AUDIO", mark), max_audio_len=8
        )
    loud(network).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
