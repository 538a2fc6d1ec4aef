"""What torch.compile needs on this machine."""

import sysconfig
from pathlib import Path

import torch

from dreambooth.core.errors import SettingError, first_line
from dreambooth.setup.config import TrainConfig

SETTING = "--torch_compile"


def refuse_compiling(config: TrainConfig, device: torch.device) -> None:
    """Raise SettingError where nothing would come of it, or where there is nothing to compile with, which torch would only find in
    the first update."""
    if not config.execution.torch_compile:
        return
    if config.loop.base_weights:
        reason = "the layers of --base_weights unpack their weights at every use, where each graph would end."
        raise SettingError(SETTING, reason, fix="Leave out one of the two.")
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise SettingError(SETTING, "Triton, by which torch compiles for this GPU, is not here or too old.", fix="pip install triton")
    if device.type in ("cuda", "cpu"):  # for a GPU it is what starts the kernels that is compiled
        _refuse_no_compiler()


def _refuse_no_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        reason = f"torch finds no C++ compiler ({first_line(error)})."
        raise SettingError(SETTING, reason, fix="Install g++ (apt install g++), name one in CXX, or leave it out.") from None
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").is_file():
        reason = f"{include} has no Python.h, which torch's code includes."
        raise SettingError(SETTING, reason, fix="Install Python's headers (apt install python3-dev), or leave it out.")
