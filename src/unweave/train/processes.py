"""Several processes that learn one network together, each from its share of every batch.

A launcher starts them, ``torchrun`` or ``accelerate launch``, and tells each by environment variables which
it is. All hold the same weights and change them alike: only sums go from one to another.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

# The launcher ends all processes where one fails. Waiting is no sign of a fault: the first validates alone.
PATIENCE = timedelta(hours=12)


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes of the launcher, if there is one, until the block ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _together():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """How many processes learn together; 1 outside of `joined`."""
    return distributed.get_world_size() if _together() else 1


def place() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if _together() else 0


def first() -> bool:
    """Whether this is the one that validates, writes and reports."""
    return place() == 0


def device() -> torch.device:
    """Where this process learns: on its GPU, else on the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def wait() -> None:
    """Go on when all have come this far."""
    if _together():
        distributed.barrier()


def add(tensors: Sequence[Tensor]) -> None:
    """Put the sum over all processes in the place of each tensor; all processes give the same shapes."""
    if count() == 1 or not tensors:
        return
    # One message: with many small ones most of the time would be spent on greetings.
    joint = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(joint)
    for tensor, total in zip(tensors, joint.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view(tensor.shape))


def agree(model: nn.Module) -> None:
    """Give the weights of the first process to all."""
    if count() > 1:
        for tensor in model.state_dict().values():
            # Broadcasting wants one block of memory, which a network laid out channels last is not.
            whole = tensor.contiguous()
            distributed.broadcast(whole, 0)
            tensor.copy_(whole)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
