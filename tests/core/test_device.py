"""Devices and precisions, and the words for memory that ran out."""

import pytest
import torch

from dreambooth.core.device import autocast, is_out_of_memory, pick_device
from dreambooth.core.errors import SettingError, first_line

no_accelerator = pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")


def test_a_cpu_may_always_be_asked_for():
    assert pick_device("cpu") == torch.device("cpu")


@no_accelerator
def test_left_out_the_device_is_what_the_machine_has():
    assert pick_device() == pick_device("auto") == torch.device("cpu")


@no_accelerator
@pytest.mark.parametrize("wanted", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_absent_is_refused_with_what_there_is(wanted):
    with pytest.raises(SettingError, match=f"--device: {wanted} was asked for, but there is only a cpu"):
        pick_device(wanted)


def test_a_device_that_does_not_exist_is_refused():
    with pytest.raises(SettingError, match="--device"):
        pick_device("gpu")


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_block_computes_in_the_precision_asked_for_over_float32_weights(precision, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 must have the same dtype"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_ran_out_is_distinguished_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_first_line_of_an_error_is_never_empty():
    assert first_line(OSError("no such file.\nlong story")) == "no such file"
    assert first_line(ValueError()) == "ValueError"
