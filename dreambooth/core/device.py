"""Which device, and in which precision: asked once, named nowhere else."""

import ctypes
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from dreambooth.core.errors import RunError, SettingError

Precision = Literal["no", "fp16", "bf16"]

DTYPES = {"no": torch.float32, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def pick_device(wanted: str | None = None) -> torch.device:
    """The accelerator of this machine (CUDA, MPS, XPU ...), or its CPU; raises SettingError when the one asked for is absent."""
    present = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if wanted in (None, "auto"):
        return torch.device(present.type) if present else torch.device("cpu")
    try:
        device = torch.device(str(wanted))
    except RuntimeError as error:
        raise SettingError("--device", str(error).split("\n")[0], fix="Use cpu, cuda, cuda:1, mps ...") from None
    if device.type != "cpu" and (present is None or present.type != device.type):
        here = f"there is only {present.type} and cpu" if present else "there is only a cpu"
        build = " (this torch is a CPU build)" if device.type == "cuda" and not torch.backends.cuda.is_built() else ""
        raise SettingError("--device", f"{device} was asked for, but {here}{build}.", fix="Leave it out to use what there is.")
    if device.index and present and device.type == present.type and device.index >= torch.accelerator.device_count():
        last = torch.accelerator.device_count() - 1
        raise SettingError("--device", f"{device} was asked for, but the last one is {device.type}:{last}.", fix="Count from 0.")
    return device


def autocast(device: torch.device, precision: str, *, keep: bool = True) -> AbstractContextManager[object]:
    """A block whose matrix work runs in the given precision over float32 weights; plain float32 for `no`. `keep`: a weight is rounded
    once, and its rounded copy stays until the block ends."""
    if DTYPES[precision] == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision], cache_enabled=keep)


def choose_kernels(*, deterministic: bool, tf32: bool) -> None:
    """Have torch use deterministic kernels, where there are any, and TF32 for float32 matrix work on NVIDIA GPUs, or not."""
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = tf32


def reserved_mib(device: torch.device) -> float | None:
    """Peak memory taken on a CUDA device, MiB; None where torch keeps no such count."""
    return torch.accelerator.max_memory_reserved(device) / 2**20 if device.type == "cuda" else None


class OutOfMemory(RunError):
    """Memory ran out; the text says where."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on an accelerator or in torch's CPU allocator."""
    texts = ("out of memory", "can't allocate memory", "not enough memory")
    is_torch = isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or is_torch


def parse_memory(text: str, setting: str = "--memory") -> int:
    """Bytes from 12GB, 12 GiB, 800MB; units are those in which memory is sold, powers of 1024. Raises SettingError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    count = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if count < 1 << 20:
        raise SettingError(setting, f"{text!r} is no amount of memory.", fix="Write 12GB, say.")
    return count


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of up to 64 MiB instead of handing them back to the system and asking again in every step.

    Does something with glibc on Linux only; there it saves a small model's CPU step thousands of page faults.
    """
    mmap_threshold, trim_threshold = -3, -1
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 1 << 26)
        library.mallopt(trim_threshold, 1 << 30)
    except (OSError, AttributeError):
        return


def free_memory(device: torch.device) -> None:
    """Give unused memory back to the device."""
    if device.type != "cpu":
        torch.accelerator.empty_cache()
