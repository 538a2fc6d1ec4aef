"""What every method keeps to on every family: it starts at the base model, learns what it says, and is kept whole in its file."""

import importlib
import pkgutil

import diffusers
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from dreambooth import methods
from dreambooth.api import generate
from dreambooth.core.batch import Batch
from dreambooth.core.device import DTYPES
from dreambooth.core.errors import SettingError
from dreambooth.core.noise import draw_timestep
from dreambooth.families.sampling import Sampling, draw
from dreambooth.families.superresolution import SuperResolution
from dreambooth.methods import OFT, LoRA, Method
from dreambooth.methods.adapters import AdapterMethod
from dreambooth.run.train import train as run
from dreambooth.training.objective import Objective
from dreambooth.training.step import forward_backward
from tests import tiny
from tests.training import runs

SHARED = {"adapters", "base", "templates", "words"}
"""Files of the shelf that hold no method of their own."""


def batch_of(family, prompts: list[str]) -> Batch:
    """Two rows whose text encoders learn."""
    x, eps = torch.randn(2, 2, *family.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    output = {name: value.expand(2, -1) for name, value in family.geometry((16, 16), (0, 0), (16, 16)).items()}
    if isinstance(family, SuperResolution):
        family.noise_levels = family.levels(())
        rngs = [torch.Generator().manual_seed(row) for row in range(2)]
        output |= family.conditioning(family.encode(tiny.small_pictures(2, side=16)), rngs)
    t = draw_timestep(family.process, torch.tensor([0.2, 0.7]))
    return Batch(x, eps, t, torch.tensor([1.0, 1.0]), family.tokenize(prompts) | output, torch.arange(2))


def answer(family, prompts: list[str]) -> torch.Tensor:
    batch = batch_of(family, prompts)
    with torch.no_grad():
        return family.answer(batch.x, family.process.times[batch.t], batch.condition)


def train(learner, prompts: list[str], steps: int = 2) -> None:
    optimizer = torch.optim.AdamW([p for parameters in learner.parameters().values() for p in parameters], lr=0.02)
    for _ in range(steps):
        forward_backward(learner.family, batch_of(learner.family, prompts), process=learner.family.process, objective=Objective())
        optimizer.step()
        optimizer.zero_grad()
        learner.after_update()


def test_every_file_of_the_folder_is_in_the_index():
    own = {kind.__module__.rpartition(".")[2] for kind in vars(methods).values() if isinstance(kind, type) and issubclass(kind, Method)}
    assert {module.name for module in pkgutil.iter_modules(methods.__path__)} == own | SHARED
    for name in own - SHARED:
        kinds = vars(importlib.import_module(f"dreambooth.methods.{name}")).values()
        assert sum(isinstance(k, type) and issubclass(k, Method) and k.__module__.endswith(name) for k in kinds) == 1


def test_nothing_changes_before_the_first_step(pair):
    family = pair.load()
    before = answer(family, pair.plain_prompts)
    pair.attach(family)
    if getattr(pair.method, "use_dora", False):
        torch.testing.assert_close(answer(family, pair.prompts), before, rtol=0, atol=1e-6)
    else:
        assert torch.equal(answer(family, pair.prompts), before)


def test_training_moves_all_that_learns_and_nothing_else(pair):
    family = pair.load()
    learner = pair.attach(family)
    learning = {id(p) for parameters in learner.parameters().values() for p in parameters}
    before = {(name, path): p.detach().clone() for name, part in family.parts.items() for path, p in part.named_parameters()}
    train(learner, pair.prompts)
    still = []
    for name, part in family.parts.items():
        for path, parameter in part.named_parameters():
            moved = not torch.equal(parameter, before[name, path])
            assert id(parameter) in learning or not moved, (name, path)
            assert parameter.requires_grad == (id(parameter) in learning), (name, path)
            if id(parameter) in learning and not moved:
                still.append(f"{name}.{path}")
    assert list(learner.parameters()) == pair.parts(family)
    assert len(still) <= len(learning) // 4, still


def test_adapters_learn_alone(pair):
    if not isinstance(pair.method, AdapterMethod):
        pytest.skip("weights of the model itself learn, or none does")
    family = pair.load()
    learner = pair.attach(family)
    names = [path for part in family.parts.values() for path, p in part.named_parameters() if p.requires_grad]
    assert names
    own = {"lora": "lora_", "loha": "hada_", "lokr": "lokr_", "oft": "oft_"}[pair.method.kind]  # type: ignore[attr-defined]
    assert all(own in name for name in names)
    assert sum(len(parameters) for parameters in learner.parameters().values()) == len(names)


def test_small_weights_are_float32_over_a_base_in_half_precision(pair):
    if pair.method.trains_whole_parts:
        pytest.skip("the base itself learns")
    family = pair.load()
    for name in (family.denoiser_name, *family.encoder_names):
        family.parts[name].to(torch.bfloat16)
    learner = pair.attach(family)
    assert {p.dtype for parameters in learner.parameters().values() for p in parameters} == {torch.float32}
    assert next(family.denoiser.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_small_weights_learn_and_draw_over_a_base_in_half_precision(pair, precision):
    if pair.method.trains_whole_parts:
        pytest.skip("the base itself learns")
    full, half = pair.load(), pair.load()
    if precision == "fp16" and not full.takes_fp16:
        with pytest.raises(SettingError, match="Use bf16"):
            next(draw(full, ["a dog"], [0], sampling=Sampling(height=16), precision=precision))
        return
    errors = []
    for family in (full, half):
        if family is half:
            for name in (family.denoiser_name, *family.encoder_names):
                family.parts[name].to(DTYPES[precision])
        learner = pair.attach(family)
        chosen = precision if family is half else "no"
        errors.append(
            forward_backward(family, batch_of(family, pair.prompts), process=family.process, objective=Objective(), precision=chosen)
        )
        gradients = [p.grad for parameters in learner.parameters().values() for p in parameters if p.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        assert any(bool(gradient.any()) for gradient in gradients)
    torch.testing.assert_close(errors[1], errors[0], rtol=0.05, atol=0)
    sampling = Sampling(num_inference_steps=2, height=16, scheduler="ddim")
    (picture,) = tiny.draw(half, pair.prompts[:1], [0], sampling=sampling, precision=precision)
    assert picture.finite


def test_switched_off_the_trained_model_is_the_base_model_again(pair):
    family = pair.load()
    before = answer(family, pair.plain_prompts)
    learner = pair.attach(family)
    train(learner, pair.prompts)
    after = answer(family, pair.prompts)
    assert (after - before).abs().max() > 1e-5
    block = learner.disabled()
    if pair.method.trains_whole_parts:
        assert block is None
        return
    with block:
        assert torch.equal(answer(family, pair.prompts), before)
    assert torch.equal(answer(family, pair.prompts), after)
    assert all(p.requires_grad for parameters in learner.parameters().values() for p in parameters)
    train(learner, pair.prompts, 1)
    assert not torch.equal(answer(family, pair.prompts), after)


@pytest.mark.parametrize("whole", [True, False], ids=["result", "checkpoint"])
def test_what_was_learned_is_loaded_bit_for_bit(pair, tmp_path, whole):
    learner = pair.learned()
    learner.save(tmp_path, whole=whole)
    again = pair.attach(pair.load(), seed=9)
    again.load(tmp_path)
    expected, found = learner.parameters(), again.parameters()
    assert expected.keys() == found.keys()
    for name in expected:
        assert len(expected[name]) == len(found[name]) > 0
        assert all(torch.equal(left, right) for left, right in zip(expected[name], found[name], strict=True))
    assert torch.equal(answer(again.family, pair.prompts), answer(learner.family, pair.prompts))


def test_diffusers_loads_the_result_by_the_lines_of_the_card_and_draws_the_same_picture(pair, tmp_path, monkeypatch):
    learner = pair.learned()
    learner.save(tmp_path, whole=True)
    kind = getattr(diffusers, type(learner.family.pipe).__name__)
    subject, known = pair.prompts[0], pair.plain_prompts[0]
    plain = tiny.picture(kind.from_pretrained(pair.base, dtype=torch.float32), known)
    theirs = kind.from_pretrained(tmp_path if pair.method.trains_whole_parts else pair.base, dtype=torch.float32)
    monkeypatch.chdir(tmp_path)
    exec(learner.usage_snippet(), {"pipe": theirs})
    ours = tiny.picture(learner.family.pipe, subject)
    torch.testing.assert_close(tiny.picture(theirs, subject), ours, rtol=0, atol=1e-5)
    assert (ours - plain).abs().max() > (0.0003 if pair.method.replaces_noun else 0.003)


def test_weights_are_named_by_the_part_they_belong_to(pair, saved):
    parts = set(pair.parts(pair.load()))
    if pair.method.new_word:
        assert (saved / "learned_embeds.safetensors").is_file()
    elif isinstance(pair.method, LoRA):
        with safe_open(saved / "pytorch_lora_weights.safetensors", framework="pt") as file:
            assert {name.partition(".")[0] for name in file.keys()} == parts  # noqa: SIM118
    else:
        assert {path.name for path in saved.iterdir()} == parts


def test_attaching_is_a_function_of_the_seed_and_leaves_other_randomness_alone(pair):
    state = torch.get_rng_state()
    first, again, other = (pair.attach(pair.load(), seed=seed).parameters() for seed in (1, 1, 2))
    pairs = [(a, b, c) for name in first for a, b, c in zip(first[name], again[name], other[name], strict=True)]
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    if isinstance(pair.method, LoRA):
        assert any(not torch.equal(a, c) for a, _, c in pairs)
    torch.set_rng_state(state)
    pair.attach(pair.load())
    assert torch.equal(torch.get_rng_state(), state)


def test_damaged_files_are_refused_by_name(pair, saved):
    path = next(saved.rglob("*.safetensors"))
    content, learner = path.read_bytes(), pair.attach(pair.load())
    for damaged in (content[: len(content) // 2], b"\x01" * 999, None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(SettingError, match=r"cannot be (loaded|read)|damaged") as caught:
            learner.load(saved)
        assert str(saved) in str(caught.value)


def test_a_file_of_another_model_is_refused(pair, saved, pipelines):
    other = "stable_diffusion" if "sdxl" in pair.base else "sdxl"
    with pytest.raises(SettingError, match=str(saved)):
        pair.attach(tiny.load(pipelines(other))).load(saved)


@pytest.mark.parametrize("settings", [{"method": "lora", "use_dora": True}, {"method": "oft"}], ids=lambda settings: settings["method"])
def test_a_run_in_half_precision_draws_what_it_showed(pipelines, tmp_path, settings):
    """Small weights are float32 beside a base in half precision, when they learn and when they are loaded."""
    alone = {"with_prior_preservation": False, "class_prompt": None, "num_class_images": None, "prior_inference_steps": None}
    shown = {"validation_prompt": "a dog", "validation_steps": 3, "validation_inference_steps": 2, "num_validation_images": 1}
    given = {**alone, **shown, **settings, "max_train_steps": 3, "learning_rate": 0.05, "mixed_precision": "bf16"}
    for _ in run(runs.config(pipelines("stable_diffusion"), root=tmp_path, output_dir=str(tmp_path / "run"), **given)):
        pass
    (picture,) = (tmp_path / "run" / "samples" / "step-000003").glob("*.png")
    (again,) = generate(tmp_path / "run", "a dog", num_images=1)
    assert again.tobytes() == Image.open(picture).tobytes()


@pytest.mark.parametrize(
    ("base", "settings", "setting"),
    [
        ("krea2", {"lora_layers": "to_q,projector"}, "--lora_layers"), ("krea2", {"lora_layers": "text_fusion.projector"}, "--lora_layers"),
        ("stable_diffusion", {"oft_blocks": 64}, "--oft_blocks"), ("sd3", {"oft_blocks": 10**6, "lora_layers": "to_q"}, "--oft_blocks"),
    ],
)  # fmt: skip
def test_an_oft_that_can_turn_nothing_or_would_fail_at_the_first_step_is_refused(pipelines, base, settings, setting):
    family = tiny.load(pipelines(base))
    with pytest.raises(SettingError) as refused:
        OFT(**settings).attach(family, [family.denoiser_name], seed=0)
    assert refused.value.setting == setting
