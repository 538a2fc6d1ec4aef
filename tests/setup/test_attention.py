"""The kernel of attention that a user chooses is the one that computes, or is refused with the reason."""

import sys

import pytest
import torch
from diffusers import attention_backend
from torch.utils._python_dispatch import TorchDispatchMode

from dreambooth.core.errors import SettingError
from dreambooth.families import family_of
from dreambooth.memory.phases import Rehearsal
from dreambooth.run.train import train
from dreambooth.setup.attention import KERNELS, refuse_attention, refuse_fixed_attention
from dreambooth.setup.config import resolve
from dreambooth.setup.model import attach, load_base
from tests import tiny
from tests.training.runs import config

PLAIN = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


class Ran(TorchDispatchMode):
    """Counts calls of torch's flash kernel for CPUs."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is PLAIN
        return func(*args, **(kwargs or {}))


def answer(model, root, **settings):
    """What a model says about noise, two prompts of different lengths, and how often torch's flash kernel was asked for that."""
    given = config(model, root=root, method="lora", **settings)
    family = load_base(given)
    attach(given, family, seed=0)
    with torch.no_grad():
        table = family.embed(family.tokenize(["a dog", "a photo of a dog"]))
        x = torch.randn((2, *family.latent_shape(16, 16)), generator=torch.Generator().manual_seed(0))
        geometry = family.geometry((16, 16), (0, 0), (16, 16))
        with Ran() as ran:
            out = family.answer(
                x, family.process.times[[5, 6]], {**table, **{name: torch.cat([one] * 2) for name, one in geometry.items()}}
            )
    return out, ran.count


@pytest.mark.parametrize("family", ["flux", "flux2", "z_image", "krea2", "qwen_image"])
def test_the_kernel_that_is_asked_for_computes(family, pipelines, tmp_path):
    plain, ran = answer(pipelines(family), tmp_path)
    asked, instead = answer(pipelines(family), tmp_path, attention_backend="_native_math")
    assert torch.allclose(plain, asked, atol=1e-4)
    assert ran > 0 or family_of(config(pipelines(family), root=tmp_path).model).masked_attention
    assert instead == 0


def test_a_model_that_is_loaded_later_has_torch_choose_again(pipelines, tmp_path):
    before = answer(pipelines("flux"), tmp_path)[1]
    answer(pipelines("flux"), tmp_path, attention_backend="_native_math")
    assert answer(pipelines("flux"), tmp_path)[1] == before


@pytest.mark.parametrize("family", [name for name in tiny.PIPELINES if name not in ("upscaler",)])
def test_families_say_of_their_attention_what_diffusers_has_made_of_it(family, pipelines, tmp_path, monkeypatch):
    masks = []
    for module in [module for name, module in sys.modules.items() if name.startswith("diffusers.models.")]:
        if plain := vars(module).get("dispatch_attention_fn"):

            def seen(*args, _plain=plain, **kwargs):
                masks.append(kwargs.get("attn_mask"))
                return _plain(*args, **kwargs)

            monkeypatch.setattr(module, "dispatch_attention_fn", seen)
    kind = family_of(config(pipelines(family), root=tmp_path).model)
    if kind.conditioning_channels:
        assert kind.fixed_attention
        return
    answer(pipelines(family), tmp_path)
    assert kind.fixed_attention is not bool(masks)
    assert kind.masked_attention is any(mask is not None for mask in masks)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flash", "not on cpu"), ("_flash_3", "not on cpu"), ("xformers", "not on cpu"), ("_native_flash", "not on cpu"),
        ("_native_cudnn", "not on cpu"), ("_native_efficient", "not on cpu"), ("sage", "attention_backend"),
    ],
)  # fmt: skip
def test_a_kernel_that_this_device_has_not_is_refused_before_anything_is_written(name, words, pipelines, tmp_path):
    with pytest.raises(SettingError, match=words) as refused:
        list(train(config(pipelines("flux"), root=tmp_path, attention_backend=name, output_dir=tmp_path / "run", method="lora")))
    assert refused.value.setting == "--attention_backend"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "install"), [("flash", "pip install flash-attn"), ("xformers", "pip install xformers"), ("_flash_3", "hopper")]
)
def test_a_package_that_is_not_installed_is_named(name, install, pipelines, tmp_path):
    with pytest.raises(SettingError, match="missing package") as refused:
        refuse_attention(config(pipelines("flux"), root=tmp_path, attention_backend=name, mixed_precision="bf16"), torch.device("cuda"))
    assert install in str(refused.value)
    with attention_backend("native"):  # what was asked about has not become the default
        pass


@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if kernel.needs_half])
def test_what_computes_in_half_precision_is_refused_in_full(name, pipelines, tmp_path):
    with pytest.raises(SettingError, match="--mixed_precision bf16"):
        refuse_attention(config(pipelines("flux"), root=tmp_path, attention_backend=name), torch.device("cuda"))


@pytest.mark.parametrize("family", ["stable_diffusion", "sdxl", "sd3", "pixart_sigma", "sana", "deepfloyd"])
def test_a_family_whose_attention_is_fixed_refuses_all_but_native(family, pipelines, tmp_path):
    given = config(pipelines(family), root=tmp_path, method="lora", attention_backend="_native_math", output_dir=tmp_path / "run")
    with pytest.raises(SettingError, match="to torch"):
        list(train(given))
    refuse_fixed_attention(given.updated({("execution", "attention_backend"): "native"}), family_of(given.model))


@pytest.mark.parametrize("family", ["z_image", "krea2", "qwen_image"])
def test_a_kernel_without_masks_is_refused_where_padding_needs_one(family, pipelines, tmp_path):
    given = config(pipelines(family), root=tmp_path, attention_backend="flash")
    with pytest.raises(SettingError, match="has no mask"):
        refuse_fixed_attention(given, family_of(given.model))


def test_the_plan_counts_the_scores_that_the_plain_kernel_keeps(pipelines, tmp_path):
    peaks = []
    for name in (None, "flash", "_native_math"):
        given = config(
            pipelines("flux"), root=tmp_path, method="lora", attention_backend=name, resolution=64, with_prior_preservation=False
        )
        peaks.append(Rehearsal(resolve(given, family_of(given.model)), on_cpu=True).training().bytes)
    assert peaks[0] == peaks[1] < peaks[2]
