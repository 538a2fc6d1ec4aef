"""A sampling loop of a flow's own `predict` draws what diffusers' pipeline draws: signs, times, shifts, packing and masks at once."""

import pytest
import torch
from torch.nn.functional import mse_loss

from dreambooth.core.batch import Batch
from dreambooth.core.loss import squared_error
from dreambooth.families import fingerprint
from dreambooth.run.material import gather, make_batches, plan_prior
from dreambooth.training.objective import Objective
from dreambooth.training.ranks import Ranks
from dreambooth.training.step import forward_backward
from tests import tiny
from tests.training.runs import config

FLOWS = ["flux", "flux2", "sd3", "z_image", "krea2", "qwen_image", "sana", "flux2_dev"]
MASKED = ["z_image", "krea2", "qwen_image", "pixart_sigma", "sana"]
PROMPTS = ["a sks dog", "A photo of a cat on the beach"]
HEIGHT, WIDTH, STEPS = 16, 24, 3


@pytest.fixture(params=FLOWS)
def flow(request, pipelines):
    return tiny.load(pipelines(request.param))


def rescaled(guided: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Guided, each token as long as without guidance."""
    ours, theirs = patches(guided), patches(plain)
    return unpatched(ours * theirs.norm(dim=-1, keepdim=True) / ours.norm(dim=-1, keepdim=True), guided)


@torch.no_grad()
def looped(family, guidance: float, negative: str | None) -> torch.Tensor:
    """Pictures by `predict`, at the times at which the pipeline's scheduler stands."""
    scheduler = family.pipe.scheduler
    scheduler._step_index = None
    if hasattr(scheduler, "model_outputs"):  # of several steps
        scheduler.set_timesteps(STEPS)
    x = torch.stack([torch.randn(family.latent_shape(HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)])
    wanted, unwanted = (family.embed(family.tokenize(prompts)) for prompts in (PROMPTS, [negative or family.default_negative_prompt] * 2))
    if family.name == "Sana":  # no instruction stands before what guidance leads away from
        text, mask, *_ = family.pipe.encode_prompt([negative or ""] * 2, False, max_sequence_length=family.text_length(1))
        unwanted = {"text": text, "mask": mask.bool()}
    family.embedded_guidance = guidance
    for time in scheduler.timesteps:
        at = time.float().expand(2)
        answer = family.predict(x, at, wanted)
        if guidance > 1 and not getattr(family.denoiser.config, "guidance_embeds", False):
            plain = family.predict(x, at, unwanted)
            guided = plain + guidance * (answer - plain)
            answer = rescaled(guided, answer) if family.name == "Qwen-Image" else guided
        x = scheduler.step(answer, time, x, return_dict=False)[0]
    return (family.decode(x) / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (3.0, None), (3.0, "Red snow")], ids=["plain", "guided", "negative"])
def test_a_loop_of_predict_draws_the_pictures_of_the_pipeline(flow, guidance, negative):
    if negative and not flow.takes_negative_prompt:
        pytest.skip("its pipeline takes none")
    negative = negative or flow.default_negative_prompt
    negatives = [negative] * 2 if negative else None
    theirs = flow.pipe(
        prompt=list(PROMPTS), num_inference_steps=STEPS, height=HEIGHT, width=WIDTH, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)], max_sequence_length=flow.text_length(len(flow.encoders)),
        **flow.pipeline_kwargs(guidance, negatives),
    ).images  # fmt: skip
    torch.testing.assert_close(looped(flow, guidance, negative), theirs, rtol=0, atol=1e-5)


def test_a_letter_more_draws_another_picture(flow):
    """So that the loop above would notice a prompt that is read otherwise."""
    flow.pipe.scheduler.set_timesteps(STEPS, **({"mu": 1.0} if flow.pipe.scheduler.config.use_dynamic_shifting else {}))
    one = looped(flow, 1.0, None)
    PROMPTS[1] += "s"
    try:
        assert (looped(flow, 1.0, None)[1] - one[1]).abs().max() > 1e-5
    finally:
        PROMPTS[1] = PROMPTS[1][:-1]


@pytest.mark.parametrize("name", ["flux2", "flux2_dev"])
def test_flux_2_reads_the_layers_that_it_draws_with(pipelines, name):
    """diffusers' own training script for klein reads those of dev, and somebody lost 72 GPU hours to it."""
    family = tiny.load(pipelines(name))
    prompts = [*PROMPTS, "a dog " * 50, "a [IMG] dog"]
    theirs, _ = family.pipe.encode_prompt(list(prompts), device="cpu", max_sequence_length=family.text_length(1))
    assert torch.equal(family.embed(family.tokenize(prompts))["text"], theirs)


def test_stable_diffusion_3_embeds_prompts_as_its_pipeline(pipelines):
    family = tiny.load(pipelines("sd3"))
    theirs, _, pooled, _ = family.pipe.encode_prompt(
        PROMPTS, PROMPTS, PROMPTS, device="cpu", do_classifier_free_guidance=False, max_sequence_length=family.text_length(3)
    )
    ours = family.embed(family.tokenize(PROMPTS))
    assert torch.equal(ours["pooled"], pooled)
    assert torch.equal(ours["clip"], theirs[:, :77, :64])
    assert torch.equal(ours["t5"], theirs[:, 77:])


def test_z_image_embeds_prompts_as_its_pipeline_and_leaves_the_list_of_prompts_alone(pipelines):
    """Its pipeline writes the chat template into the caller's list, so that a second call reads it twice."""
    family = tiny.load(pipelines("z_image"))
    prompts = list(PROMPTS)
    ours = family.embed(family.tokenize(prompts))
    assert prompts == PROMPTS
    theirs, _ = family.pipe.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=family.text_length(1))
    for row, mask, expected in zip(ours["text"], ours["mask"], theirs, strict=True):
        torch.testing.assert_close(row[mask], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prompts", [PROMPTS, ["a dog " * 50] * 2], ids=["short", "long"])
def test_krea_2_embeds_prompts_as_its_pipeline(pipelines, prompts):
    """Also one that is too long, behind whose end there still are the words that the answer starts with."""
    family = tiny.load(pipelines("krea2"))
    theirs, mask = family.pipe.encode_prompt(prompts, max_sequence_length=family.text_length(1))
    ours = family.embed(family.tokenize(prompts))
    assert torch.equal(ours["mask"].sum(dim=1), mask.sum(dim=1))
    torch.testing.assert_close(ours["text"][ours["mask"]], theirs[mask], rtol=0, atol=1e-6)


def test_qwen_image_embeds_prompts_as_its_pipeline(pipelines):
    family = tiny.load(pipelines("qwen_image"))
    theirs, mask = family.pipe.encode_prompt(PROMPTS)
    ours = family.embed(family.tokenize(PROMPTS))
    assert torch.equal(ours["mask"], mask.bool())
    torch.testing.assert_close(ours["text"][ours["mask"]], theirs[mask.bool()], rtol=0, atol=1e-6)


def test_sigmas_are_shifted_in_training_as_the_folder_says_and_not_where_they_go_by_the_size(flow):
    """diffusers' script for Qwen-Image asks for a shift of 3, of which its scheduler, which shifts by size, knows nothing; the one for
    Sana trains without the shift that Sana is drawn with."""
    config = flow.pipe.scheduler.config
    shift = config.flow_shift if "flow_shift" in config else 1.0 if config.use_dynamic_shifting else config.shift
    assert flow.process.sigma[500] == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5))


def test_sana_embeds_prompts_behind_its_pipelines_instruction(pipelines):
    family = tiny.load(pipelines("sana"))
    own = family.instruction.split("\n")
    prompts = [*PROMPTS, "a dog " * 50]
    options = {"max_sequence_length": family.text_length(1), "complex_human_instruction": own}
    theirs, mask, *_ = family.pipe.encode_prompt(prompts, False, **options)
    ours = family.embed(family.tokenize(prompts))
    assert len(own) == 8 and torch.equal(ours["mask"], mask.bool()) and mask[0].sum() < mask[2].sum()
    torch.testing.assert_close(ours["text"], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_what_lies_under_a_mask_counts_for_nothing(pipelines, name):
    family = tiny.load(pipelines(name))
    condition = family.embed(family.tokenize(PROMPTS))
    x, time = torch.randn(2, *family.latent_shape(16, 16)), torch.tensor([300.0, 900.0])
    text = condition["text"].clone()
    text[~condition["mask"].bool()] = 7.0
    other = {**condition, "text": text}
    assert torch.equal(family.predict(x, time, condition), family.predict(x, time, other))


def batch_of(family) -> Batch:
    x, eps = torch.randn(2, 2, *family.latent_shape(16, 24), generator=torch.Generator().manual_seed(1))
    return Batch(x, eps, torch.tensor([120, 700]), torch.ones(2) / 2, family.embed(family.tokenize(PROMPTS)), torch.arange(2))


def patches(latents: torch.Tensor) -> torch.Tensor:
    """2 x 2 latents a token, channels first."""
    return torch.nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpatched(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    h, w = like.shape[2:]
    return torch.nn.functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (h // 2, w // 2)), 2)


def test_the_loss_of_a_flow_is_that_of_diffusers_scripts(flow):
    """At the scheduler's own sigmas, velocity against velocity; FLUX.1's stands in full in test_against_diffusers."""
    batch, scheduler, network = batch_of(flow), flow.pipe.scheduler, flow.denoiser
    if flow.name == "Sana":
        plain = 1 - batch.t / 1000
        sigmas = 3 * plain / (1 + 2 * plain)
    else:
        sigmas = scheduler.sigmas[batch.t]
    sigma, times = sigmas.view(-1, 1, 1, 1), 1000 * sigmas
    noisy, condition = (1 - sigma) * batch.x + sigma * batch.eps, batch.condition
    if flow.name.startswith("FLUX.2"):
        ids = torch.tensor([[0, row, column, 0] for row in range(4) for column in range(6)]).expand(2, -1, -1)
        text_ids = torch.tensor([[0, 0, 0, place] for place in range(condition["text"].shape[1])]).expand(2, -1, -1)
        out = network(
            noisy.flatten(2).transpose(1, 2), encoder_hidden_states=condition["text"], timestep=times / 1000, img_ids=ids, txt_ids=text_ids,
            guidance=torch.full((2,), flow.embedded_guidance) if "dev" in flow.name else None,
        ).sample  # fmt: skip
        answer = out.transpose(1, 2).reshape(noisy.shape)
    elif flow.name == "Z-Image":
        text = [row[: mask.sum()] for row, mask in zip(condition["text"], condition["mask"], strict=True)]
        answer = -torch.stack(network([row[:, None] for row in noisy], (1000 - times) / 1000, text, return_dict=False)[0])[:, :, 0]
    elif flow.name == "Stable Diffusion 3":
        widened = torch.cat([condition["clip"], torch.zeros(2, 77, condition["t5"].shape[2] - condition["clip"].shape[2])], dim=2)
        text = torch.cat([widened, condition["t5"]], dim=1)
        answer = network(noisy, encoder_hidden_states=text, pooled_projections=condition["pooled"], timestep=times).sample
    elif flow.name == "Krea 2":
        grid = [[0, row, column] for row in range(4) for column in range(6)]
        places = torch.tensor([[0, 0, 0]] * condition["text"].shape[1] + grid)
        out = network(patches(noisy), condition["text"], times / 1000, places, encoder_attention_mask=condition["mask"]).sample
        answer = unpatched(out, noisy)
    elif flow.name == "Qwen-Image":
        kept = {"encoder_hidden_states": condition["text"], "encoder_hidden_states_mask": condition["mask"]}
        answer = unpatched(network(patches(noisy), timestep=times / 1000, img_shapes=[[(1, 4, 6)]] * 2, **kept).sample, noisy)
    elif flow.name == "Sana":
        answer = network(noisy, condition["text"], times * 0.5, encoder_attention_mask=condition["mask"]).sample
    else:
        pytest.skip("see test_against_diffusers")
    theirs = mse_loss(answer, batch.eps - batch.x)
    pred = flow.predict(flow.process.noise(batch.x, batch.eps, batch.t), flow.process.times[batch.t], condition)
    ours = squared_error(pred, flow.process.target(batch.x, batch.eps, batch.t)).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_gradient_checkpointing_changes_no_gradient(flow):
    found = []
    for checkpointing in (False, True):
        flow.denoiser.train().requires_grad_(True).zero_grad()
        if checkpointing:
            flow.denoiser.enable_gradient_checkpointing()
        forward_backward(flow, batch_of(flow), process=flow.process, objective=Objective())
        found.append({name: p.grad.clone() for name, p in flow.denoiser.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6)


def test_a_flow_in_bfloat16_answers_nearly_as_in_float32(flow):
    batch = batch_of(flow)
    flow.denoiser.requires_grad_(True)
    errors = []
    for precision in ("no", "bf16"):
        if precision == "bf16":
            flow.denoiser.to(torch.bfloat16)
        errors.append(forward_backward(flow, batch, process=flow.process, objective=Objective(), precision=precision))
    torch.testing.assert_close(errors[1], errors[0], rtol=0.03, atol=0)


@pytest.mark.parametrize("update", [0, 3])
@pytest.mark.parametrize("learning", [False, True], ids=["frozen text", "learning text"])
def test_class_images_are_trained_with_the_class_prompt_and_every_row_has_one(flow, learning, update, pipelines, tmp_path):
    """diffusers' script for SD3 gives class images the instance prompt; those for klein and Z-Image repeat both prompts too often."""
    if learning and not flow.text_trainable:
        pytest.skip("its text encoder does not learn")
    given = {"class_data_dir": str(tiny.photos(tmp_path / "class")), "train_text_encoder": learning, "method": "lora"}
    folder = flow.pipe.name_or_path
    wanted = config(folder, root=tmp_path, **given)
    material = gather(wanted, "sks")
    material.prior = plan_prior(wanted, material, type(flow), fingerprint(wanted.model.folder()))
    expected = flow.tokenize(["a sks dog"] * 2 + ["a dog"] * 2)
    expected = expected if learning else flow.embed(expected)
    *_, batches = make_batches(wanted, material, flow, Ranks(0, 1, torch.device("cpu")), 1)
    batch = batches.make(update, 0, 4)
    rows = {name: value for name, value in batch.condition.items() if name not in flow.geometry((16, 16), (0, 0), (16, 16))}
    for name, value in rows.items():
        if name in expected:
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)
    assert rows.keys() >= expected.keys() and {len(value) for value in rows.values()} == {4}
    assert batch.weight.tolist() == [0.5] * 4
