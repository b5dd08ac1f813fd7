"""Published models, read through transformers: safetensors only, and from the hub one commit only.

From a folder without touching the network. No code that comes with a model is run: the classes are those of
transformers, and its `trust_remote_code` stays off.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unweave.errors import ModelError, UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def read(loader: Any, source: str | Path, revision: str | None = None, **options: Any) -> Any:
    """`loader.from_pretrained`, its errors as ours.

    Args:
        loader: a class of transformers: a model, a processor, a tokenizer.
        source: a folder, or a name on the model hub.
        revision: the commit on the hub, 40 hexadecimal digits; none for a folder.
        options: what else `from_pretrained` is told.

    Raises:
        ModelError: the files are missing, damaged, or of another model.
        UsageError: a hub name without a commit, or a folder with one.
    """
    from safetensors import SafetensorError

    place = _place(source, revision)
    with _quiet():
        try:
            return loader.from_pretrained(**place, **options)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"cannot read a {loader.__name__} from {source}: {reason}; give a folder with config.json, "
                f"model.safetensors and the processor's files, or a hub name with a commit that has them"
            ) from error


def network(loader: Any, source: str | Path, revision: str | None, device: str, **options: Any) -> Any:
    """The model on `device`, to answer and not to learn, every tensor of it from the file.

    Raises:
        ModelError: as `read`, or tensors are missing.
        UsageError: as `read`.
    """
    # Before anything is built: another model's settings would leave every size at its default, of billions.
    config = read(_Settings, source, revision)
    if config.get("model_type") != loader.config_class.model_type:
        raise ModelError(
            f"{source} holds a model of the type {config.get('model_type')!r}, wanted is a {loader.__name__} "
            f"({loader.config_class.model_type!r}); give another folder or name"
        )
    model, report = read(loader, source, revision, use_safetensors=True, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ModelError(
            f"{source} lacks {len(report['missing_keys'])} tensors of a {loader.__name__}, "
            f"{min(report['missing_keys'])!r} for one; it is damaged or holds another model"
        )
    return model.to(device).eval().requires_grad_(False)


def title(kind: str, source: str | Path, revision: str | None) -> str:
    """What a report calls the model; of a folder its last part only, which is no secret of the machine."""
    return f"{kind} {source}@{revision[:12]}" if revision else f"{kind} {Path(source).resolve().name}"


def _place(source: str | Path, revision: str | None) -> dict[str, Any]:
    if Path(source).is_dir():
        if revision is not None:
            raise UsageError(f"{source} is a folder, which has no revision {revision!r}; leave it out")
        return {"pretrained_model_name_or_path": str(source), "local_files_only": True}
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source):
        raise ModelError(
            f"no folder {str(source)!r}; give the folder that holds config.json and model.safetensors, or a "
            f"name on the model hub, OWNER/NAME, with a commit"
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise UsageError(
            f"{source} on the hub wants the commit to use, 40 hexadecimal digits, got {revision!r}; branches "
            f"move, and numbers of different weights do not compare"
        )
    from huggingface_hub import constants

    offline = {"local_files_only": True} if constants.HF_HUB_OFFLINE else {}
    return {"pretrained_model_name_or_path": source, "revision": revision, **offline}


class _Settings:
    """A model's config.json, as it is."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str, **options: Any) -> dict[str, Any]:
        from transformers import PretrainedConfig

        found: dict[str, Any] = PretrainedConfig.get_config_dict(pretrained_model_name_or_path, **options)[0]
        return found


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for reading a file, and no report of tensors that nobody asked for, a head's say."""
    from transformers import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
