"""In which precision the parts of a base model are loaded, where they are while it trains, and which of them leave."""

import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin
from transformers import PreTrainedModel

from dreambooth.cli import main
from dreambooth.families import ModelSource
from dreambooth.run.material import gather, make_batches
from dreambooth.run.train import train
from dreambooth.setup import model
from dreambooth.setup.model import load_base, load_in, place_for_encoding, place_for_training
from dreambooth.training.ranks import Ranks
from tests import tiny
from tests.evaluation.conftest import encoder_flags
from tests.training.runs import config, same_files, weights

__all__ = ["encoder_flags"]

CPU = Ranks(0, 1, torch.device("cpu"))


def source(folder) -> ModelSource:
    return ModelSource(pretrained_model_name_or_path=str(folder))


def read(family) -> list[str]:
    """The parts that are computed with in half precision."""
    return [family.denoiser_name, *family.encoder_names]


def size(parts) -> int:
    """Bytes of weights that are held."""
    return sum(p.nbytes for part in parts for p in part.parameters() if not p.is_meta)


@pytest.fixture
def loaded(monkeypatch):
    """The precision in which each part is asked of the libraries, by its class."""
    asked: list[tuple[str, torch.dtype]] = []
    for kind in (ModelMixin, PreTrainedModel):
        own = kind.from_pretrained.__func__

        def spy(cls, *args, own=own, **options):
            asked.append((cls.__name__, options.get("dtype") or options.get("torch_dtype") or torch.float32))
            return own(cls, *args, **options)

        monkeypatch.setattr(kind, "from_pretrained", classmethod(spy))
    return asked


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_frozen_parts_are_asked_for_in_the_precision_they_will_have(name, pipelines, tmp_path, loaded):
    """Once all was float32 first: 76 GiB of a 20-billion network, on its way to 38."""
    family = load_base(config(pipelines(name), root=tmp_path, method="lora", mixed_precision="bf16"))
    kinds = {type(family.parts[part]).__name__ for part in read(family)}
    assert {kind for kind, dtype in loaded if dtype == torch.bfloat16} == kinds
    vae = getattr(family.pipe, "vae", None)
    assert {kind for kind, dtype in loaded if dtype != torch.bfloat16} == ({type(vae).__name__} if vae else set())
    whole = tiny.load(pipelines(name))
    parts, before = ([one.parts[part] for part in read(one)] for one in (family, whole))
    assert size(before) <= 2 * size(parts) <= 1.01 * size(before)
    for part, other in zip(parts, before, strict=True):
        whole_ones = set(part._keep_in_fp32_modules or ()) if isinstance(part, ModelMixin) else set[str]()  # Krea 2's norms
        for path, value in part.named_parameters():
            assert value.dtype == (torch.bfloat16 if whole_ones.isdisjoint(path.split(".")) else torch.float32), path
            assert torch.equal(value, other.get_parameter(path).to(value.dtype)), path
    assert not vae or {p.dtype for p in vae.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["stable_diffusion", "flux2"])
def test_a_run_its_pictures_and_its_evaluation_never_hold_a_frozen_part_in_float32(
    name, pipelines, tmp_path, loaded, encoder_flags, monkeypatch
):
    run = tmp_path / "run"
    settings = {"method": "lora", "mixed_precision": "bf16", "max_train_steps": 1, "class_noun": "dog", "output_dir": str(run)}
    list(train(config(pipelines(name), root=tmp_path, **settings)))
    assert main(["generate", str(run), "a [V] dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0
    few = "--num_images 1 --num_prompts 1 --class_samples 2 --num_inference_steps 1"
    encoders = [word for flag, value in encoder_flags.items() for word in (f"--{flag}", value)]
    assert main(["evaluate", str(run), *few.split(), *encoders]) == 0
    assert main(["generate", str(pipelines(name)), "a dog", "--num_images", "1", "--num_inference_steps", "1", "--mixed_precision", "bf16",
                 "--output_dir", str(tmp_path / "drawn")]) == 0  # fmt: skip
    family = tiny.load(pipelines(name))
    kinds = {type(family.parts[part]).__name__ for part in read(family)}
    asked = [dtype for kind, dtype in loaded[: -len(family.parts)] if kind in kinds]
    assert len(asked) == 5 * len(kinds) and set(asked) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("settings", "rounded"),
    [
        ({"method": "full", "mixed_precision": "bf16"}, set()),
        ({"method": "lora", "mixed_precision": "no"}, set()),
        ({"method": "lora", "mixed_precision": "fp16"}, {"unet", "text_encoder"}),
        ({"method": "textual_inversion", "mixed_precision": "bf16", "with_prior_preservation": False}, {"unet", "text_encoder"}),
    ],
)
def test_all_is_float32_where_whole_parts_learn_or_the_arithmetic_is(settings, rounded, pipelines, tmp_path):
    family = load_base(config(pipelines("stable_diffusion"), root=tmp_path, **settings))
    found = {name for name, part in family.parts.items() if {p.dtype for p in part.parameters()} != {torch.float32}}
    assert found == rounded


def test_weights_that_learn_in_place_are_never_rounded(pipelines, tmp_path):
    given = config(pipelines("stable_diffusion"), root=tmp_path, method="custom_diffusion", mixed_precision="bf16")
    family, whole = load_base(given), tiny.load(pipelines("stable_diffusion"))
    kept = {name for name, p in family.denoiser.named_parameters() if p.dtype == torch.float32}
    assert kept and kept == {name for name, _ in whole.denoiser.named_parameters() if name.endswith(given.method.learned_in_place)}
    assert all(torch.equal(family.denoiser.get_parameter(name), whole.denoiser.get_parameter(name)) for name in kept)


def test_the_libraries_own_exceptions_of_half_precision_are_respected(pipelines):
    """T5's last layers overflow in float16: transformers keeps them in float32, and rounding all afterwards undid that."""
    t5 = load_in("fp16", source(pipelines("flux"))).encoders[1]
    assert {name.rpartition(".wo.")[1] for name, p in t5.named_parameters() if p.dtype == torch.float32} == {".wo."}


@pytest.mark.parametrize("name", ["stable_diffusion", "sd3", "flux2"])
def test_what_a_run_needs_no_more_leaves_and_changes_nothing(name, pipelines, tmp_path):
    """Encoders and VAE are asked once where nothing more is drawn; with pictures to come they stay for those."""
    held = {}
    for what, more in (("leaves", {}), ("stays", {"validation_prompt": "a dog", "validation_steps": 2, "validation_inference_steps": 1})):
        given = config(pipelines(name), root=tmp_path, method="lora", max_train_steps=3, output_dir=str(tmp_path / what), **more)
        family = load_base(given)
        *_, batches = make_batches(given.updated({("prior", "with_prior_preservation"): False}), gather(given, "sks"), family, CPU, 1)
        idle = [part for part in family.parts if part != family.denoiser_name]
        held[what] = size(family.parts[part] for part in idle)
        assert batches.make(0, 0, 2).x.isfinite().all() and size([family.denoiser])
        list(train(given))
    assert held["leaves"] == 0 < held["stays"]
    same_files(weights(tmp_path / "leaves"), weights(tmp_path / "stays"))


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"method": "full"}, set()),
        ({"method": "lora", "cache_latents": False}, {"text_encoder"}),
        ({"method": "lora", "train_text_encoder": True}, {"vae"}),
        ({"method": "lora", "skip_final_inference": False}, set()),
    ],
)
def test_only_parts_that_nobody_asks_again_leave(settings, left, pipelines, tmp_path):
    given = config(pipelines("stable_diffusion"), root=tmp_path, **settings)
    family = load_base(given)
    place_for_training(given, family, torch.device("cpu"))
    assert {name for name, part in family.parts.items() if next(part.parameters()).is_meta} == left


def test_beside_an_accelerator_only_what_is_asked_lies_on_it(pipelines, tmp_path, monkeypatch):
    """They need not fit there together: klein 9B takes 17 GiB, its encoder 14."""
    given = config(pipelines("flux2"), root=tmp_path, method="lora", skip_final_inference=False)
    family, where = load_base(given), dict[str, str]()
    monkeypatch.setattr(family, "to", lambda device, *, parts: where.update(dict.fromkeys(parts, device.type)))
    monkeypatch.setattr(model, "free_memory", lambda device: None)
    place_for_encoding(family, torch.device("cuda"), ["vae"])
    assert where == {"transformer": "cpu", "vae": "cuda", "text_encoder": "cpu"}
    place_for_encoding(family, torch.device("cuda"), ["text_encoder"])
    assert where == {"transformer": "cpu", "vae": "cpu", "text_encoder": "cuda"}
    place_for_training(given, family, torch.device("cuda"))
    assert where == {"transformer": "cuda", "vae": "cpu", "text_encoder": "cpu"}
