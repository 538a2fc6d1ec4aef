"""Frozen weights rest, and come to the device block by block; what is learned is what would be learned without.

There is one device here, a CPU: blocks rest in one piece of its memory and are copied into another, by the code that copies to a GPU.
"""

import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from dreambooth.cli import main
from dreambooth.core.batch import Batch
from dreambooth.core.errors import SettingError
from dreambooth.families import family_of
from dreambooth.families.offload import Offload, Visit, blocks_of
from dreambooth.memory.fitting import fitting, least_estimate, levers_of
from dreambooth.memory.phases import Rehearsal
from dreambooth.run import request
from dreambooth.run.train import train
from dreambooth.setup.config import resolve
from dreambooth.setup.model import attach, load_base
from dreambooth.setup.offloading import offload, refuse_offload
from dreambooth.training.batches import text_table
from dreambooth.training.objective import Objective
from dreambooth.training.step import forward_backward
from tests import tiny
from tests.training.runs import config, same_files, weights

CPU = torch.device("cpu")
SETTINGS = {"method": "lora", "gradient_checkpointing": True, "with_prior_preservation": False}
FAMILIES = ("stable_diffusion", "sdxl", "flux", "flux2", "sd3", "z_image")
ADDED = ("textual_inversion", "custom_diffusion")


class Mixing(TorchDispatchMode):
    """Fails where something is computed with weights that rest: on a GPU they would be on the other device."""

    def __init__(self, offload: Offload):
        super().__init__()
        self.offloaded = {block.offloaded.untyped_storage()._cdata: block.name for block in offload.blocks.values()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func not in (torch.ops.aten._to_copy.default, torch.ops.aten.detach.default):
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, torch.Tensor):
                    assert tensor.untyped_storage()._cdata not in self.offloaded, f"{func} of a weight that is offloaded"
        return func(*args, **(kwargs or {}))


class Residence:
    """Which blocks are copied in which order, and how many are there at once."""

    def __init__(self, monkeypatch):
        self.order: list[str] = []
        self.now = self.most = 0
        own = Visit.__init__

        def noted(visit, block, *rest):
            own(visit, block, *rest)
            self.order.append(block.name)
            self.now += 1
            self.most = max(self.most, self.now)
            weakref.finalize(visit.memory.untyped_storage(), self._gone)

        monkeypatch.setattr(Visit, "__init__", noted)

    def _gone(self):
        self.now -= 1


def attached(model, tmp_path, *, offloaded, **settings):
    """A family with something to learn, and its learner."""
    given = config(model, root=tmp_path, group_offload=offloaded, **{**SETTINGS, **settings})
    family = load_base(given)
    offload(given, family, CPU)
    learner = attach(given, family, seed=0)
    family.to(CPU)
    learner.mode(train=True)
    return family, learner


def gradients(family, learner, *, pieces=1):
    """Of an update of two photos, whose numbers are the same each time."""
    rng = torch.Generator().manual_seed(0)
    side = 8 * family.pixel_step
    shape = (2, *family.latent_shape(side, side))
    with torch.no_grad():
        table = text_table(family, ["a dog"], learning=learner.parts)
    condition = {name: torch.cat([one] * 2) for name, one in {**table, **family.geometry((side, side), (0, 0), (side, side))}.items()}
    x, eps = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
    t = torch.tensor([len(family.process.times) // 3, len(family.process.times) // 2])
    batch = Batch(x, eps, t, torch.ones(2), condition, torch.arange(2))
    forward_backward(family, batch, process=family.process, objective=Objective(), pieces=pieces)
    found = [p.grad for some in learner.parameters().values() for p in some]
    for parameter in (p for some in learner.parameters().values() for p in some):
        parameter.grad = None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradients_are_those_of_weights_that_stay_bit_for_bit(family, pipelines, tmp_path):
    plain = gradients(*attached(pipelines(family), tmp_path, offloaded=False))
    offloaded, learner = attached(pipelines(family), tmp_path, offloaded=True)
    for _ in range(2):  # the second time with blocks on their way
        with Mixing(offloaded.offload):
            found = gradients(offloaded, learner)
        assert any(gradient is not None and gradient.any() for gradient in plain)
        assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True) if one is not None)


@pytest.fixture
def allowed(monkeypatch):
    """Users are refused it on a CPU."""
    monkeypatch.setattr(request, "refuse_offload", lambda *_: None)


def run(model, tmp_path, name, **settings):
    """The folder of a run of three updates."""
    given = {**SETTINGS, "max_train_steps": 3, "output_dir": tmp_path / name, **settings}
    list(train(config(model, root=tmp_path, **given)))
    return tmp_path / name


@pytest.mark.parametrize(
    "settings",
    [
        {"train_text_encoder": True, "mixed_precision": "bf16", "base_weights": "nf4"}, {"use_dora": True, "base_weights": "int8"},
        {"method": "lokr", "gradient_accumulation_steps": 2},
        *({"method": name, "instance_prompt": None, "identifier": None, "class_noun": "dog"} for name in ADDED),
    ],
)  # fmt: skip
def test_what_is_saved_is_what_weights_that_stay_would_have_learned(settings, pipelines, tmp_path, allowed):
    model = pipelines("stable_diffusion")
    plain, offloaded = (run(model, tmp_path, str(on), group_offload=on, checkpointing_steps=2, **settings) for on in (False, True))
    same_files(weights(plain), weights(offloaded))
    same_files(weights(plain / "checkpoint-2"), weights(offloaded / "checkpoint-2"))


@pytest.mark.parametrize("family", ["sd3", "flux2"])
def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(family, pipelines, tmp_path, allowed):
    model = pipelines(family)
    """On a smaller card, too: it may go on with or without."""
    whole = run(model, tmp_path, "whole", checkpointing_steps=1)
    run(model, tmp_path, "parts", max_train_steps=1, checkpointing_steps=1)
    run(model, tmp_path, "parts", max_train_steps=2, checkpointing_steps=1, resume_from_checkpoint="latest", group_offload=True)
    parts = run(model, tmp_path, "parts", checkpointing_steps=1, resume_from_checkpoint="latest", group_offload=True)
    same_files(weights(whole), weights(parts))


@pytest.mark.parametrize("family", ["stable_diffusion", "flux", "deepfloyd"])
def test_pictures_are_drawn_while_weights_rest_and_are_the_same(family, pipelines, tmp_path, allowed, monkeypatch):
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))
    drawn = []
    for on in (False, True):
        settings = {"with_prior_preservation": True, "num_class_images": 2, "prior_inference_steps": 2, "class_noun": "dog",
                    "class_data_dir": tmp_path / f"class-{on}", "validation_prompt": "a sks dog", "validation_steps": 1,
                    "num_validation_images": 1, "validation_inference_steps": 2, "max_train_steps": 1}  # fmt: skip
        folder = run(pipelines(family), tmp_path, str(on), group_offload=on, **settings)
        found = sorted([*(folder / "samples").rglob("*.png"), *(tmp_path / f"class-{on}").glob("*.png")])
        drawn.append([Image.open(path).tobytes() for path in found])
    assert len(drawn[0]) == 4
    assert drawn[0] == drawn[1]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.learned = nn.Linear(64, 64).requires_grad_(False), nn.Linear(64, 64)

    def forward(self, x):
        return (self.frozen(x) + self.learned(x)).relu()


class Network(nn.Module):
    """Blocks one after the other, computed again in the backward pass."""

    _no_split_modules = ("Layer",)

    def __init__(self, count: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(count))

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if torch.is_grad_enabled() else layer(x)
        return x


@pytest.fixture
def network():
    """(network of 6 blocks, its offload)"""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Network(6)
    offloaded = Offload(CPU)
    offloaded.add("network", made)
    return made, offloaded


def numbers(order: list[str]) -> str:
    return "".join(name.rpartition(".")[2] for name in order)


def test_blocks_come_in_the_order_in_which_they_are_asked_and_three_are_there_at_most(network, monkeypatch):
    made, _ = network
    seen, x = Residence(monkeypatch), torch.randn(2, 64, requires_grad=True)
    for expected in ("0123453210", "23453210"):  # the first two and the last two are still there where it turns
        seen.order.clear()
        made(x).sum().backward()
        assert numbers(seen.order) == expected
    assert seen.most == 3


def test_the_next_block_is_on_its_way_while_one_is_asked(network, monkeypatch):
    made, _ = network
    seen, there = Residence(monkeypatch), []
    for layer in made.layers:
        layer.frozen.register_forward_hook(lambda *_: there.append(numbers(seen.order)))
    with torch.no_grad():
        for _ in range(2):
            made(torch.ones(1, 64))
    assert there[:6] == ["0", "01", "012", "0123", "01234", "012345"]
    assert [one.removeprefix("012345") for one in there[6:]] == ["0", "012", "0123", "01234", "012345", "0123450"]


def test_weights_that_autograd_keeps_are_not_exchanged_where_a_block_is_not_computed_again(network):
    made, offloaded = network
    x = torch.randn(2, 64, requires_grad=True)
    answers = []
    for _ in range(2):
        out = x
        with Mixing(offloaded):
            for layer in made.layers:
                out = layer(out)
            out.sum().backward()
        answers.append(x.grad.clone())
        x.grad = None
    offloaded.forget(made)
    made(x).sum().backward()
    assert all(torch.equal(x.grad, one) for one in answers)


def test_on_a_gpu_copies_run_beside_the_work_and_memory_is_given_back_when_that_is_done(network, monkeypatch):
    """By a stand-in for CUDA's streams, which notes what it is asked."""
    made, offloaded = network
    noted: list[str] = []

    class Stream(torch.cuda.Stream):
        def __new__(cls, name):
            return object.__new__(cls)

        def __init__(self, name):
            self.name, self.events = name, 0

        def record_event(self):
            self.events += 1
            event = SimpleNamespace(name=f"{self.name}{self.events}")
            event.synchronize = lambda: noted.append(f"host waits for {event.name}")
            return event

        def wait_event(self, event):
            noted.append(f"{self.name} waits for {event.name}")

    @contextmanager
    def within(stream):
        noted.append("copy")
        yield

    offloaded.stream, work = Stream("copy"), Stream("work")
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: work)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda memory, stream: noted.append(f"kept for {stream.name}"))
    with torch.no_grad():
        for _ in range(2):
            made(torch.ones(1, 64))
    expected = ["host waits for work8", "work waits for copy10", "kept for work", "copy"]
    assert noted[:3] == ["copy", "work waits for copy1", "kept for work"]
    place = noted.index("host waits for work8")
    assert noted[place : place + 4] == expected  # block 1 is done, 2 may not be, 3 is here, 4 is on its way


def test_moving_a_part_leaves_what_rests_and_an_error_leaves_it_in_its_place(network):
    made, offloaded = network
    offloaded.move(made, "meta")
    assert {p.device.type for p in (made.layers[0].frozen.weight, made.layers[0].learned.weight)} == {"cpu", "meta"}
    with pytest.raises(RuntimeError):
        made(torch.ones(1, 64))  # of what learns there are no numbers
    assert all(table[slot] is own for block in offloaded.blocks.values() for (table, slot), own in zip(block.slots, block.own, strict=True))


@pytest.mark.parametrize("family", tiny.PIPELINES)
def test_the_attention_of_every_familys_denoiser_rests(family, pipelines, tmp_path):
    denoiser = load_base(config(pipelines(family), root=tmp_path, **SETTINGS)).denoiser
    offloaded = {f"{path}.{name}" for path, block in blocks_of(denoiser) for name, _ in block.named_modules()}
    assert len(offloaded) > 20
    if not family.startswith("deepfloyd"):  # whose attention is no part of blocks
        assert {name for name, _ in denoiser.named_modules() if name.endswith(("to_q", "to_k"))} <= offloaded


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({}, "dreambooth plan --memory"), ({"gradient_checkpointing": False}, "--gradient_checkpointing"),
        ({"torch_compile": True}, "--torch_compile"), ({"method": "full"}, "--method lora"),
    ],
)  # fmt: skip
def test_where_weights_cannot_rest_it_is_refused_with_the_reason(settings, fix, pipelines, tmp_path):
    with pytest.raises(SettingError) as refused:
        run(pipelines("stable_diffusion"), tmp_path, "run", group_offload=True, **settings)
    assert refused.value.setting == "--group_offload"
    assert fix in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "reason"), [("mps", "weights would be kept"), ("xpu", "no CUDA device")])
def test_other_devices_are_refused_too(kind, reason, pipelines, tmp_path):
    given = config(pipelines("stable_diffusion"), root=tmp_path, group_offload=True, **SETTINGS)
    with pytest.raises(SettingError, match=reason):
        refuse_offload(given, torch.device(kind))


def test_the_plan_counts_what_is_there_by_the_steps_own_code(pipelines, tmp_path):
    peaks, rehearsals = [], []
    for on in (False, True):
        given = config(pipelines("z_image"), root=tmp_path, train_batch_size=1, group_offload=on, skip_final_inference=False, **SETTINGS)
        rehearsals.append(Rehearsal(resolve(given, family_of(given.model)), on_cpu=False))
        peaks.append({phase.name: phase.peak for phase in rehearsals[-1].phases()})
    plain, offloaded = peaks
    blocks = rehearsals[1].family.offload.blocks.values()
    largest = sum(sorted((block.offloaded.nbytes for block in blocks if block.name.startswith("transformer")), reverse=True)[:3])
    whole = sum(block.offloaded.nbytes for block in blocks if block.name.startswith("transformer"))
    stays = plain["training"].parts["weights"] - whole
    assert 0 < offloaded["training"].parts["weights"] - stays < largest + 4096
    assert offloaded["previews"].parts["text encoders"] < plain["previews"].parts["text encoders"]
    assert all(offloaded[name].bytes < plain[name].bytes for name in ("training", "previews"))
    assert rehearsals[0].offloaded == 0
    assert whole < rehearsals[1].offloaded


def test_fit_takes_it_for_a_card_after_weights_in_few_bits_and_never_for_a_cpu(pipelines, tmp_path):
    given = config(pipelines("stable_diffusion"), root=tmp_path, **{**SETTINGS, "gradient_checkpointing": False})
    given = resolve(given, family_of(given.model))
    device = torch.device("cuda")
    plain = least_estimate(given, device, limit=None)
    found = fitting(given, device, limit=1, plain=least_estimate(given, device, limit=1))
    assert "--group_offload" in found.flags
    assert found.estimate.peak < plain.peak
    costs = [lever.cost for lever in levers_of(device)]
    assert costs.index(next(cost for cost in costs if "4 bits" in cost)) < costs.index(next(cost for cost in costs if "RAM" in cost))
    assert not any(lever.of_gpus for lever in levers_of(CPU))


def test_plan_says_what_a_card_and_the_machine_need(pipelines, capsys):
    flags = ["--method", "lora", "--gradient_checkpointing", "--resolution", "32", "--memory", "12GB"]
    assert main(["plan", str(pipelines("flux")), *flags, "--group_offload"]) == 0
    assert "pinned" in capsys.readouterr().out
    assert main(["plan", str(pipelines("flux")), *flags[:-2], "--device", "cpu", "--group_offload"]) == 2
    assert "--group_offload" in capsys.readouterr().err
