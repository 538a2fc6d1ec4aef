"""No number that a user can give reaches a library that cannot take it: every setting of every command has bounds on both sides."""

import importlib
import inspect
import math
import pkgutil
from typing import Any

import annotated_types as bounds
import pytest
import torch
from torch import nn

import dreambooth
from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.core.trees import place
from dreambooth.families import Family
from dreambooth.families.sampling import Sampling, check, draw
from dreambooth.methods import OFT, LoHa, LoKr, LoRA
from dreambooth.schema import Flag, Setting, flags
from dreambooth.training.objective import Objective
from dreambooth.training.optimizers import Optimization
from dreambooth.training.step import Update
from tests import tiny

for found in pkgutil.walk_packages(dreambooth.__path__, "dreambooth."):
    if not found.name.startswith("dreambooth.toybox") and not found.name.endswith("__main__"):
        importlib.import_module(found.name)

MOST = 2**63
VALUES = (
    "nan", "inf", "-inf", "1e400", "1e308", "-1e308", "5e-324", "-0.0", "-1", "0", "9" * 5000, "0x10", "1_0", "", " ", "[1]", MOST - 1,
    MOST, 2 * MOST, -MOST - 1, 10**30, 10**400, -(10**400), 1e308, -1e308, math.nan, math.inf, -0.0, 2**53 + 1, None, [], {}, b"1",
)  # fmt: skip


def trees(kind: type[Setting] = Setting) -> list[type[Setting]]:
    """Every class of settings in the package."""
    return [one for child in kind.__subclasses__() if child.__module__.startswith("dreambooth.") for one in (child, *trees(child))]


def is_number(flag: Flag) -> bool:
    return flag.type_name.split()[0] in ("integer", "number")


NUMBERS = [(tree, flag) for tree in trees() if not inspect.isabstract(tree) for flag in flags(tree).values() if is_number(flag)]


def parsed(tree: type[Setting], flag: Flag, value: Any) -> Any:
    """The leaf's value in a tree that is given nothing else but what it cannot do without."""
    choices = {flag.path[-1]: flag.choices for flag in flags(tree).values() if flag.choices}
    required = [name for name, info in tree.model_fields.items() if info.is_required()]
    values: dict[str, Any] = {name: {} if name == "arms" else choices.get(name, ("x",))[0] for name in required}
    values |= {name: "x" for name in tree.positional if tree.model_fields[name].default == ""}  # a bench without a plan would pack
    if flag.kinds:
        place(values, (*flag.path[:-1], "kind"), next(iter(flag.kinds)))
    place(values, flag.path, [value] if flag.is_list else value)
    leaf: Any = tree.parse(values)
    for name in flag.path:
        leaf = getattr(leaf, name)
    return leaf[0] if flag.is_list and leaf else leaf


def test_there_are_numbers_in_every_commands_settings():
    names = {tree.__name__ for tree, _ in NUMBERS}
    commands = {"TrainConfig", "GenerateConfig", "EvaluateConfig", "BenchConfig", "StudyMake", "StudyTable", "DemoConfig"}
    assert commands | {"IdentifierSearch", "PhotosPrepare", "PhotosCheck", "Plan", "Arm"} <= names


@pytest.mark.parametrize(("tree", "flag"), NUMBERS, ids=[f"{tree.__name__}-{flag.name}" for tree, flag in NUMBERS])
def test_a_number_is_refused_by_its_flag_or_is_one_that_every_library_takes(tree, flag):
    for value in VALUES:
        try:
            taken = parsed(tree, flag, value)
        except SettingError as error:
            assert error.setting == f"--{flag.name}" and len(str(error)) < 300, error
            continue
        if taken is None or taken == []:
            continue
        assert abs(taken) < MOST and math.isfinite(taken), (value, taken)
        assert math.copysign(1, taken) == 1 or taken < 0, f"{value} keeps the sign of zero"
        assert torch.tensor(float(taken), dtype=torch.float32).isfinite()


@pytest.mark.parametrize(("tree", "flag"), NUMBERS, ids=[f"{tree.__name__}-{flag.name}" for tree, flag in NUMBERS])
def test_a_number_has_a_bound_on_both_sides(tree, flag):
    said = repr(flag.annotation)
    assert any(f"{low.__name__}(" in said for low in (bounds.Ge, bounds.Gt)), said
    assert any(f"{high.__name__}(" in said for high in (bounds.Le, bounds.Lt)), said


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--seed", str(MOST)],
        ["train", "--validation_seed", str(2 * MOST)],
        ["train", "--resolution", str(10**9)],
        ["train", "--learning_rate", "inf"],
        ["train", "--prior_loss_weight", "nan"],
        ["train", "--preset", "diffusers", "--max_grad_norm", "-inf"],
        ["generate", "RUN", "a dog", "--seed", str(2 * MOST - 1)],
        ["generate", "RUN", "a dog", "--height", str(10**9)],
        ["generate", "RUN", "a dog", "--guidance_scale", "nan"],
        ["generate", "RUN", "a dog", "--num_images", str(10**12)],
        ["evaluate", "RUN", "--seed", str(MOST)],
        ["evaluate", "RUN", "--class_samples", str(10**12)],
        ["bench", "smoke", "--seeds", f"0,{MOST}"],
        ["study", "make", "A", "B", "OUT", "--seed", str(MOST)],
        ["identifier", "toybox", "--seed", str(2 * MOST)],
        ["identifier", "toybox", "--guidance_scale", "inf"],
        ["photos", "prepare", "A", "B", "--fill", "nan"],
        ["demo", "--seed", str(MOST)],
    ],
    ids=" ".join,
)
def test_every_command_names_the_flag_before_it_reads_anything_else(capsys, words):
    assert main(words) == 2
    output = capsys.readouterr().err
    assert words[-2] in output and "Traceback" not in output and len(output) < 400


@pytest.mark.parametrize("base", ["stable_diffusion", "flux"])
def test_the_largest_seed_and_guidance_are_drawn_with(pipelines, base):
    family: Family = tiny.load(pipelines(base))
    strong = Sampling(num_inference_steps=1, guidance_scale=1000, eta=1, scheduler="ddim", height=16)
    seeds = [MOST - 1, MOST - 1 + 10**6]
    assert [picture.seed for picture in draw(family, ["a dog"] * 2, seeds, sampling=strong)] == seeds


@pytest.mark.parametrize("sampler", ["dpm++", "unipc", "euler", "ddim"])
def test_a_sampler_takes_all_of_a_models_times_or_refuses_to(pipelines, sampler):
    family = tiny.load(pipelines("stable_diffusion"))
    for steps in (999, 1000):
        asked = Sampling(num_inference_steps=steps, scheduler=sampler, height=16)
        try:
            scheduler = check(family, asked)
        except SettingError as error:
            assert error.setting == "--num_inference_steps" and sampler != "euler"
            continue
        scheduler.set_timesteps(steps)
        latents = torch.ones(1, 4, 2, 2)
        for time in scheduler.timesteps:
            scheduler.scale_model_input(latents, time)
            latents = scheduler.step(torch.zeros_like(latents), time, latents).prev_sample
        assert latents.isfinite().all()


BOUNDS = {
    "learning_rate": (5e-324, 1000), "text_encoder_lr": (1000,), "lr_power": (5e-324, 100), "lr_num_cycles": (10**6,),
    "lr_warmup_steps": (0, 10**9), "adam_weight_decay": (1000,), "adam_epsilon": (5e-324, 1), "max_grad_norm": (0, 5e-324, 1e12),
    "adam_beta1": (0, 1 - 2**-53), "adam_beta2": (0, 1 - 2**-53),
}  # fmt: skip


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine_with_restarts", "polynomial"])
@pytest.mark.parametrize(("name", "values"), BOUNDS.items(), ids=BOUNDS)
def test_optimizers_step_with_the_largest_and_the_smallest_numbers(name, values, schedule):
    for value in values:
        asked, weight = Optimization(**{name: value}, lr_scheduler=schedule), nn.Parameter(torch.ones(3))  # type: ignore[arg-type]
        optimizer, rate = asked.build({"unet": [weight]}, device=torch.device("cpu"), pictures_per_update=1), asked.rate(10**9)
        for step in (0, 1, 10**9 - 1):
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate(step)
            weight.grad = torch.full((3,), 0.1)
            Update(optimizer, max_grad_norm=asked.max_grad_norm, precision="no", device=weight.device).apply()
        assert not weight.isnan().any()


@pytest.mark.parametrize("base", ["stable_diffusion", "flux"])
@pytest.mark.parametrize("scheme", ["none", "logit_normal", "mode"])
def test_times_and_weights_stay_in_their_range_at_the_bounds(pipelines, base, scheme):
    process = tiny.load(pipelines(base)).process
    given = {"snr_gamma": (5e-324, 1e6), "logit_mean": (-100, 100), "logit_std": (5e-324, 100), "mode_scale": (-1, 1.75)}
    given |= {"min_timestep": (999, 10**6), "max_timestep": (1, 10**6)}
    for name, values in given.items():
        for value in values:
            asked = Objective(**{name: value}, weighting_scheme=scheme)
            try:
                asked.check(process)
            except SettingError:
                continue
            t = asked.timesteps(process, torch.linspace(0, 1 - 2**-24, 65), torch.linspace(-4, 4, 65))
            weight = torch.as_tensor(asked.weight(process, t))
            assert t.min() >= 0 and t.max() < 1000 and weight.isfinite().all(), (name, value)


@pytest.mark.parametrize(
    "method",
    [
        LoRA(rank=4096), LoRA(lora_alpha=1e6), LoRA(lora_alpha=5e-324), LoHa(lora_alpha=5e-324), LoKr(decompose_factor=0),
        LoKr(decompose_factor=10**6), OFT(oft_blocks=10**6), OFT(oft_blocks=3),
    ],
    ids=repr,
)  # fmt: skip
def test_adapters_are_put_in_or_refused_by_their_flag(pipelines, method):
    family = tiny.load(pipelines("stable_diffusion"))
    try:
        method.attach(family, ["unet"], seed=MOST - 1)
    except SettingError as error:
        assert error.setting in [f"--{name}" for name in type(method).model_fields], error
