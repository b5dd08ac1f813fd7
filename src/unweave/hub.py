"""The weights Unweave ships: what there is, where it lies, and how it is saved and loaded.

One file is one model: safetensors, the network's frozen config as JSON in the header, loaded strictly.
Published checkpoints that exist as torch files only are read as tensors: nothing in them is run.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unweave.config import from_dict
from unweave.errors import ModelError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDER = Path(__file__).parent / "weights"
DEFAULT = "opensep-small"
FOREIGN = {".ckpt": "audiosep"}  # checkpoints published by others, by suffix: the engine that reads them


@dataclass(frozen=True)
class Weights:
    """One published set of weights."""

    name: str  # what the user types
    engine: str  # file in separators/ that loads it
    file: str  # in weights/
    sha256: str  # of the file
    licence: str  # of the weights
    parameters: int
    summary: str  # one line
    scores: dict[str, float] = field(default_factory=dict)  # by name, measured as the card says


def _table() -> dict[str, Weights]:
    entries = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    return {name: Weights(name=name, **entry) for name, entry in entries.items()}


WEIGHTS = _table()


def find(name: str) -> Weights:
    """The published weights called `name`.

    Raises:
        UnknownNameError: there are none; the nearest name is suggested.
    """
    if name not in WEIGHTS:
        raise UnknownNameError("model", name, WEIGHTS)
    return WEIGHTS[name]


def path_of(weights: Weights) -> Path:
    """The file of published weights, verified.

    Raises:
        ModelError: it is missing, or not the published file.
    """
    path = FOLDER / weights.file
    if not path.exists():
        raise ModelError(f"the weights {weights.name!r} are missing ({path}); reinstall unweave")
    found = file_sha256(path)
    if found != weights.sha256:
        raise ModelError(
            f"{path} is damaged: sha256 {found[:12]}, published {weights.sha256[:12]}; reinstall unweave"
        )
    return path


def card(name: str) -> str:
    """The model card of published weights, markdown."""
    return (FOLDER / find(name).file).with_suffix(".md").read_text(encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


Network = TypeVar("Network", bound="nn.Module")


def save(model: Any, path: Path, engine: str) -> None:
    """Write parameters (fp16), buffers (as they are) and config of `model` to one file, atomically.

    Buffers are what was measured, such as the variances of a batch norm, which may lie far outside of what
    fp16 can hold.
    """
    from safetensors.torch import save_file

    learned = {name for name, _ in model.named_parameters()}
    tensors = {
        name: (tensor.half() if name in learned and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    header = {"engine": engine, "config": json.dumps(dataclasses.asdict(model.config))}
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, part, metadata=header)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def engine_of(path: Path) -> str:
    """The engine that a weight file is for: from its header, or by its suffix where others published it.

    Raises:
        ModelError: neither a file of ours nor one of `FOREIGN`, or cut short.
    """
    if path.suffix in FOREIGN and path.is_file():
        return FOREIGN[path.suffix]
    return str(_header(path)["engine"])


def load(network: type[Network], config: type[Any], path: Path, device: str = "cpu") -> Network:
    """Rebuild a `network` from its file: config from the header, tensors strictly, float32, eval mode.

    Raises:
        ModelError: the file is missing, damaged, or holds another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = _header(path)
    try:
        model: Any = network(from_dict(config, json.loads(header["config"])))
        stored = load_file(path)
        tensors = {name: one.float() if one.is_floating_point() else one for name, one in stored.items()}
        model.load_state_dict(tensors, strict=True)
    except (SafetensorError, RuntimeError, UsageError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} does not hold a {network.__name__}: {error}") from error
    ready: Network = model.to(device).eval().requires_grad_(False)
    return ready


def read_checkpoint(path: Path) -> "dict[str, Tensor]":
    """The tensors of a published Lightning checkpoint, a torch file; mapped, so that the unused cost nothing.

    Raises:
        ModelError: it is damaged, holds no "state_dict" of tensors, or more than tensors and plain values.
    """
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} is not a torch checkpoint of tensors and plain values, or is cut short: {reason}; "
            f"download it again"
        ) from error
    state = found.get("state_dict") if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise ModelError(f'{path} has no "state_dict" of tensors; give the checkpoint as it was published')
    return state


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(
            f"no weight file {str(path)!r}; `unweave models list` shows the ones that come along"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            header: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    if not {"engine", "config"} <= header.keys():
        raise ModelError(f"{path} has no engine and config in its header; save it with unweave.hub.save")
    return header
