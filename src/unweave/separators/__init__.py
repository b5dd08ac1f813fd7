"""Engines behind one method. The folder is the registry: one file, one engine, one `load`."""

import importlib
import pkgutil
from pathlib import Path

from unweave import hub
from unweave.errors import DeviceError, UnknownNameError
from unweave.types import Separator

DEVICES = ("auto", "cpu", "cuda", "mps")


def available() -> list[str]:
    """Names of the engines there are.

    >>> "opensep" in available()
    True
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(weights: str = hub.DEFAULT, device: str = "auto") -> Separator:
    """An engine, ready to separate.

    Args:
        weights: a published name (`hub.WEIGHTS`), the path of a .safetensors file made by `hub.save`, or of a
            checkpoint that others published (`hub.FOREIGN`).
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        UnknownNameError: no such name, and not a file either.
        ModelError: the weights are missing, damaged or of another network.
        DeviceError: the device is not there.
    """
    if weights in hub.WEIGHTS or not _is_file(weights):
        published = hub.find(weights)
        engine, path = published.engine, hub.path_of(published)
    else:
        path = Path(weights)
        engine = hub.engine_of(path)
    if engine not in available():
        raise UnknownNameError("engine", engine, available())
    place, _ = choose_device(device)
    module = importlib.import_module(f"unweave.separators.{engine}")
    separator: Separator = module.load(path, place)
    return separator


def choose_device(name: str = "auto") -> tuple[str, str]:
    """The torch device that `name` stands for, and why.

    Raises:
        UnknownNameError: a kind of device Unweave does not know.
        DeviceError: torch cannot reach it here.
    """
    import torch

    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "auto":
        if cuda:
            return "cuda", f"CUDA is there: {torch.cuda.get_device_name()}"
        if mps:
            return "mps", "Apple's GPU is there"
        return "cpu", f"no GPU that this torch {torch.__version__} can use; {torch.get_num_threads()} threads"
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        raise DeviceError(
            f"--device {name} was asked for, but torch {torch.__version__} sees none; use --device cpu"
        )
    return name, "as asked"


def _is_file(weights: str) -> bool:
    return Path(weights).suffix in (".safetensors", *hub.FOREIGN) or Path(weights).is_file()
