"""An instruction-tuned language model on this machine, held to a JSON schema while it writes.

OpenSep's is Llama-3-8B-Instruct (Mahmud and Marculescu, EMNLP 2024, section 4.1); any model of transformers
with a chat template will do. Weights are read from safetensors and no code comes with them. llguidance says
before each token which ones can still lead to JSON that fits the schema; the likeliest of them is written.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unweave.errors import ChatError

LONGEST_ANSWER = 1024  # tokens
FILES = ("*.json", "*.safetensors", "*.jinja")
SUGGESTED = "meta-llama/Meta-Llama-3-8B-Instruct"


def folder(name: str) -> Path:
    """Where the model called NAME or NAME@REVISION lies: a folder, or what the hub has under that name.

    Raises:
        ChatError: there is no such model, the hub cannot be reached, or it is not a model with a tokenizer
            in safetensors.
    """
    try:
        found = Path(name).expanduser()
    except RuntimeError as error:  # "~nobody"
        raise ChatError(f"there is no folder {name}: {error}; give its whole path") from error
    if not found.is_dir():
        found = _from_hub(name)
    wanted = ("config.json", "tokenizer.json", "*.safetensors")
    missing = [pattern for pattern in wanted if not any(found.glob(pattern))]
    if missing:
        raise ChatError(
            f"{name} has no {missing[0]}; wanted a language model saved by transformers in safetensors with "
            f"its tokenizer, for example {SUGGESTED}"
        )
    return found


def _from_hub(name: str) -> Path:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if not match:
        raise ChatError(f"there is no folder {name}; wanted a folder, or a name on the hub as {SUGGESTED}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(match[1], revision=match[2], allow_patterns=list(FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ChatError(
            f"{name} is no folder, is not in the hub's cache on this machine, and cannot be had from the "
            f"hub: {' '.join(str(error).split())[:150]}; download it where there is a network, and name "
            f"its folder"
        ) from error


def fingerprint(model: Path) -> str:
    """Changes when a file of the model does; without reading gigabytes."""
    files = sorted(file for pattern in FILES for file in model.glob(pattern))
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class LocalModel:
    """(prompt, schema or None) -> answer, the same twice. Loaded when it is first asked."""

    def __init__(self, model: Path, device: str, seconds: float) -> None:
        self.model, self.device, self.seconds = model, device, seconds
        self._loaded: tuple[Any, Any, Any] | None = None

    def __call__(self, prompt: str, schema: Mapping[str, Any] | None) -> str:
        """One answer.

        Raises:
            ChatError: the model cannot be loaded, has no chat template, is given more than it can read, is
                too slow, or the schema is more than llguidance knows.
        """
        from transformers import GenerationConfig

        model, tokenizer, vocabulary = self._loaded = self._loaded or self._load()
        message = [{"role": "user", "content": prompt}]
        try:
            given = tokenizer.apply_chat_template(
                message, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            ).to(self.device)
        except Exception as error:  # a template is a small program that came with the model
            raise ChatError(
                f"the chat template of {self.model} is damaged: {error!r}; wanted {SUGGESTED}"
            ) from error
        length = given["input_ids"].shape[1]
        room = getattr(model.config, "max_position_embeddings", length + LONGEST_ANSWER) - length
        if room < LONGEST_ANSWER:
            raise ChatError(
                f"{self.model} reads {length + room} tokens and the question has {length}, which leaves less "
                f"than {LONGEST_ANSWER} for the answer; take a model that reads more"
            )
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=LONGEST_ANSWER,
            max_time=self.seconds,
            eos_token_id=_ends(model, tokenizer),
            pad_token_id=_ends(model, tokenizer)[0],
        )
        held = [] if schema is None else [_Held(vocabulary, schema, length)]
        started = time.monotonic()
        try:
            with torch.inference_mode():
                written = model.generate(**given, generation_config=settings, logits_processor=held)
        except torch.OutOfMemoryError as error:
            raise ChatError(f"{self.model} ran out of memory on {self.device}; take a smaller one") from error
        if time.monotonic() - started >= self.seconds:
            raise ChatError(
                f"{self.model} did not answer within {self.seconds:g} s; try a smaller model, a faster "
                f"device, a longer time, or none"
            )
        return str(tokenizer.decode(written[0, length:], skip_special_tokens=True))

    def _load(self) -> tuple[Any, Any, Any]:
        """Network, tokenizer, and the tokenizer as llguidance wants it."""
        from llguidance.hf import from_tokenizer
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer, logging

        logging.disable_progress_bar()
        rules: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.model, **rules)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self.model, use_safetensors=True, dtype="auto", output_loading_info=True, **rules
            )
            model, found = loaded
            if found["missing_keys"]:
                raise ValueError(f"the weights lack {min(found['missing_keys'])}")
            model = model.to(self.device).eval().requires_grad_(False)
            vocabulary = from_tokenizer(
                tokenizer,
                n_vocab=model.config.get_text_config().vocab_size,
                eos_token=_ends(model, tokenizer),
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ChatError(
                f"{self.model} is not a language model that can be loaded: "
                f"{' '.join(str(error).split())[:200]}; "
                f"wanted one saved by transformers in safetensors, for example {SUGGESTED}"
            ) from error
        if not tokenizer.chat_template:
            raise ChatError(
                f"{self.model} has no chat template, so it was not tuned to follow instructions; wanted "
                f"for example {SUGGESTED}"
            )
        return model, tokenizer, vocabulary


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer; some models have several."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ValueError("no token ends an answer")
    return list(ends) if isinstance(ends, list | tuple) else [int(ends)]


class _Held:
    """A logits processor of transformers that leaves only tokens which can lead to JSON of a schema."""

    def __init__(self, vocabulary: Any, schema: Mapping[str, Any], start: int) -> None:
        """`start` is the length of the question in tokens."""
        from llguidance import LLMatcher

        # Between brackets a model at a loss would write spaces for ever; control characters are of no use.
        grammar = LLMatcher.grammar_from_json_schema(
            dict(schema), overrides={"whitespace_flexible": False, "json_allowed_escapes": '"\\'}
        )
        self._matcher, self._start = LLMatcher(vocabulary, grammar, log_level=0), start
        self._check()

    def __call__(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """(1, L) tokens so far, (1, V) scores of the next -> scores, -inf for what must not come."""
        if tokens.shape[1] > self._start:
            self._matcher.consume_token(int(tokens[0, -1]))
        mask = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        self._check()
        # One bit a token, the lowest bit first.
        bits = mask[:, None].bitwise_right_shift(torch.arange(8, dtype=torch.uint8)) & 1
        allowed = bits.flatten()[: scores.shape[1]].bool().to(scores.device)
        return scores.masked_fill(~allowed, -torch.inf)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ChatError(
                f"the model cannot be held to the schema: {self._matcher.get_error()[:200]}; "
                f"use simpler rules"
            )
