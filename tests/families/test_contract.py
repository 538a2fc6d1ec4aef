"""What every family keeps to, whatever it is."""

import importlib
import json
import pkgutil
from types import SimpleNamespace

import pytest
import torch

from dreambooth import families
from dreambooth.core.errors import SettingError
from dreambooth.families import FAMILIES, Family, ModelSource, family_of
from dreambooth.families.superresolution import SuperResolution
from tests import tiny

PROMPTS = ["a sks dog", "a photo of a cat on the beach, in the snow"]


def pixels(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def latents(family: Family, seed: int = 3) -> torch.Tensor:
    """Two rows of noise in the shape of the latents of pictures of 16 px."""
    return torch.randn(2, *family.latent_shape(16, 16), generator=torch.Generator().manual_seed(seed))


def beside(family: Family, count: int = 2) -> dict[str, torch.Tensor]:
    """The conditions of a picture that are not its prompt, [count, ...]: its size and crop, and a smaller one."""
    geometry = {name: value.expand(count, -1) for name, value in family.geometry((32, 24), (8, 0), (16, 16)).items()}
    if isinstance(family, SuperResolution):
        family.noise_levels = family.levels((1e-3, 0.3))
    return geometry | family.conditioning(family.encode(pixels(count)), [torch.Generator().manual_seed(5 + row) for row in range(count)])


def condition_of(family: Family, prompts=PROMPTS) -> dict[str, torch.Tensor]:
    return family.embed(family.tokenize(prompts)) | beside(family, len(prompts))


def test_every_other_file_of_the_package_is_one_family_of_the_index():
    files = {module.name for module in pkgutil.iter_modules(families.__path__)} - {
        "base",
        "cascade",
        "complete",
        "downloading",
        "fitting",
        "flow",
        "loading",
        "names",
        "offload",
        "shards",
        "recipes",
        "safety",
        "samplers",
        "sampling",
        "single_file",
        "source",
        "superresolution",
        "text",
        "video_latents",
    }
    modules = {family.__module__.rpartition(".")[2]: family for family in FAMILIES}
    assert files == modules.keys()
    for name in files:
        module = importlib.import_module(f"dreambooth.families.{name}")
        own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Family) and v.__module__ == module.__name__]
        assert own == [modules[name]]


def test_the_tests_know_a_tiny_pipeline_of_every_family(pipelines):
    kinds = {json.loads((pipelines(name) / "model_index.json").read_text())["_class_name"] for name in tiny.PIPELINES}
    assert all(kinds & set(family.pipelines) for family in FAMILIES)


def test_a_pipeline_of_no_known_family_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WuerstchenDecoderPipeline"}))
    with pytest.raises(SettingError, match=r"WuerstchenDecoderPipeline is no family.*StableDiffusionXLPipeline"):
        family_of(ModelSource(pretrained_model_name_or_path=str(tmp_path)))


def test_all_parts_are_float32_frozen_and_in_eval(family):
    for part in family.parts.values():
        assert not part.training
        for parameter in part.parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad


def test_a_folder_saved_in_half_precision_loads_in_float32_throughout(family, tmp_path):
    family.pipe.to(torch.float16)
    family.save(tmp_path)
    again = tiny.load(tmp_path)
    assert {parameter.dtype for part in again.parts.values() for parameter in part.parameters()} == {torch.float32}


def test_a_variant_of_the_weights_can_be_named(family, tmp_path):
    family.pipe.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(SettingError, match=r"holds fp16 weights only\. Add --variant fp16"):
        tiny.load(tmp_path)
    same_weights(family, tiny.load(tmp_path, variant="fp16"))


def test_a_saved_family_is_the_same_when_loaded_again(family, tmp_path):
    family.save(tmp_path)
    same_weights(family, tiny.load(tmp_path))


def same_weights(left: Family, right: Family) -> None:
    assert left.parts.keys() == right.parts.keys()
    for name, part in left.parts.items():
        other = right.parts[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in part.state_dict().items())


def test_encoding_gives_the_posterior_of_the_vae(family):
    if not family.vae_classes:
        pytest.skip("it has none")
    channels, *sides = family.latent_shape(16, 16)
    moments = family.encode(pixels())
    mean, std = moments[:, : 2 * channels].chunk(2, dim=1)
    assert sides == [16 // family.vae_factor] * 2
    assert moments.shape == (2, 2 * channels + family.conditioning_channels, *sides)
    posterior = posterior_of(family)
    assert bool((std > 0).all()) or not posterior.std.any()
    for ours, theirs in ((mean, posterior.mean), (std, posterior.std)):
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values), "in patches, where it is not equal"
        assert channels != theirs.shape[1] or torch.equal(ours, theirs.view_as(ours))


def posterior_of(family):
    """As the VAE itself gives it; Qwen-Image's takes videos, and Sana's gives no spread."""
    if "DC" in type(family.pipe.vae).__name__:
        latents = family.pipe.vae.encode(pixels()).latent
        return SimpleNamespace(mean=latents, std=torch.zeros_like(latents))
    axes = pixels().unsqueeze(2) if "QwenImage" in type(family.pipe.vae).__name__ else pixels()
    return family.pipe.vae.encode(axes).latent_dist


def test_latents_are_drawn_from_the_posterior_shifted_and_scaled(family):
    if not family.vae_classes:
        pytest.skip("it has none")
    moments, noise = family.encode(pixels()), latents(family)
    mean, std = moments[:, : 2 * noise.shape[1]].chunk(2, dim=1)
    shift, scale = family.normalization()
    x = family.draw(moments, noise)
    assert std.any() or family.name == "Sana"
    torch.testing.assert_close(x / scale + shift - mean, std * noise, rtol=1e-3, atol=1e-5)


def test_decoding_undoes_the_shift_and_the_scale(family):
    again = family.decode(family.draw(family.encode(pixels()), torch.zeros_like(latents(family))))
    if not family.vae_classes:
        assert torch.equal(again, pixels())
        return
    theirs = family.pipe.vae.decode(posterior_of(family).mean).sample
    torch.testing.assert_close(again, theirs.view_as(again), rtol=0, atol=1e-5)
    assert again.shape == pixels().shape


def test_prompts_are_padded_to_the_full_length_of_every_tokenizer(family):
    """The mistake of a public re-implementation: prompts as long as they are, where the networks were trained on 77 tokens."""
    tokens = family.tokenize(PROMPTS)
    for number, tokenizer in enumerate(family.tokenizers, start=1):
        suffix = "" if number == 1 else f"_{number}"
        ids, mask = tokens[f"input_ids{suffix}"], tokens[f"attention_mask{suffix}"]
        assert ids.shape == mask.shape == (2, family.dropped_tokens + tokenizer.model_max_length)
        assert bool((ids[mask == 0] == tokenizer.pad_token_id).all())
        assert (mask[0] == 0).sum() > 10


def test_a_shorter_text_length_can_be_asked_for_and_a_longer_one_not(family):
    full = [family.text_length(number) for number in range(1, len(family.encoders) + 1)]
    family.configure_tokenizers(max_length=100_000)
    assert [family.text_length(number) for number in range(1, len(full) + 1)] == full
    family.configure_tokenizers(max_length=10)
    assert {ids.shape[1] - family.dropped_tokens for ids in family.tokenize(PROMPTS).values()} == {10}


def test_a_tokenizer_without_a_length_of_its_own_pads_to_what_its_encoder_takes(family):
    for tokenizer in family.tokenizers:
        tokenizer.model_max_length = int(1e30)
    lengths = [family.text_length(number) for number in range(1, len(family.encoders) + 1)]
    clips = sum(type(encoder).__name__.startswith("CLIP") for encoder in family.encoders)
    assert lengths == [77] * clips + [family.most_tokens] * (len(lengths) - clips)
    family.embed(family.tokenize(PROMPTS))


def test_long_prompts_are_cut(family):
    tokens = family.tokenize(["a dog " * 200])
    assert tokens["input_ids"].shape == (1, family.dropped_tokens + family.text_length(1))
    assert family.as_read("a dog " * 200)[1]
    assert family.as_read("a dog")[1] == ""


def test_every_row_of_a_condition_belongs_to_one_prompt(family):
    together, alone = (family.embed(family.tokenize(prompts)) for prompts in (PROMPTS, PROMPTS[1:]))
    for name, value in together.items():
        torch.testing.assert_close(value[1:], alone[name], rtol=0, atol=1e-5)


def test_predictions_are_shaped_like_latents_and_depend_on_all_their_conditions(family):
    condition = condition_of(family)
    x, time = latents(family), family.process.times[torch.tensor([10, 900])]
    out = family.predict(x, time, condition)
    assert out.shape == x.shape
    assert not torch.allclose(out, family.predict(x, time.flip(0), condition), atol=1e-6)
    for name, value in condition.items():
        changed = ~value if value.dtype == torch.bool else value + torch.randn_like(value.float()).to(value.dtype)
        changed = value.flip(0) if name == "noise_level" else changed
        other = family.predict(x, time, {**condition, name: changed})
        assert not torch.allclose(out, other, atol=1e-7), name


def test_layers_that_see_four_dimensions_are_known(family):
    """PEFT's OFT takes such inputs for pictures."""
    deep = set()
    for name, module in family.denoiser.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs, name=name: deep.add(name) if inputs[0].ndim == 4 else None)
    family.predict(latents(family), family.process.times[torch.tensor([10, 900])], condition_of(family))
    assert deep == set(family.deep_inputs)


def test_rows_are_predicted_apart(family):
    condition = condition_of(family)
    x, time = latents(family), family.process.times[torch.tensor([10, 900])]
    whole = family.predict(x, time, condition)
    part = family.predict(x[1:], time[1:], {name: value[1:] for name, value in condition.items()})
    torch.testing.assert_close(whole[1:], part, rtol=0, atol=1e-5)


def test_answers_from_token_ids_equal_those_from_embeddings(family):
    tokens, x, time = family.tokenize(PROMPTS), latents(family), family.process.times[torch.tensor([10, 900])]
    output = beside(family)
    torch.testing.assert_close(family.answer(x, time, {**tokens, **output}), family.predict(x, time, {**family.embed(tokens), **output}))


def test_recipes_name_settings_that_exist(family):
    from dreambooth.schema import flags
    from dreambooth.setup.config import TrainConfig

    assert {"full", "lora", "loha", "lokr", "oft"} <= family.recipe.keys()
    assert ("textual_inversion" in family.recipe) == family.takes_new_words
    for kind, values in family.recipe.items():
        known = {name for name, flag in flags(TrainConfig).items() if not flag.kinds or kind in flag.kinds}
        assert values.keys() <= known, kind
        TrainConfig.parse({"method": {"kind": kind}})


def test_the_process_is_that_of_the_base_model_whatever_draws_the_pictures(family):
    """Public trainers took the sampler's scheduler, or one model's for all, where the base model's own was needed."""
    from diffusers import DDPMScheduler

    before = family.process
    config = dict(family.pipe.scheduler.config)
    if before.prediction != "flow":
        family.pipe.scheduler = DDPMScheduler(beta_start=0.1, beta_end=0.2)
        assert torch.equal(before.alpha, family.process.alpha)
        theirs = DDPMScheduler.from_config(config)
        assert torch.equal(before.alpha, theirs.alphas_cumprod**0.5)
    else:
        family.pipe.scheduler.set_timesteps(4, **({"mu": 1.0} if config["use_dynamic_shifting"] else {}))
        again = family.make_schedule()
        assert torch.equal(before.sigma, again.sigma)


def test_v_prediction_is_read_from_the_scheduler_of_the_base_model(pipelines):
    assert tiny.load(pipelines("v_prediction")).process.prediction == "v_prediction"
    assert tiny.load(pipelines("stable_diffusion")).process.prediction == "epsilon"
    assert tiny.load(pipelines("flux")).process.prediction == "flow"


def test_resolutions_come_in_steps_that_the_denoiser_can_pack(pipelines):
    assert [tiny.load(pipelines(name)).pixel_step for name in tiny.PIPELINES] == [2, 2, 4, 4, 4, 4, 4, 4, 4, 2, 4, 2, 4, 4]


def test_another_vae_and_another_tokenizer_take_the_place_of_the_models_own(pipelines, tmp_path):
    torch.manual_seed(7)
    other = tiny.vae()
    other.save_pretrained(tmp_path / "alone")
    tiny.clip_tokenizer(20).save_pretrained(tmp_path / "whole" / "tokenizer")
    family = tiny.load(
        pipelines("stable_diffusion"), pretrained_vae_name_or_path=str(tmp_path / "alone"), tokenizer_name=str(tmp_path / "whole")
    )
    assert torch.equal(next(family.pipe.vae.parameters()), next(other.parameters()))
    assert family.text_length(1) == 20
    for name, flag in (("pretrained_vae_name_or_path", "--pretrained_vae"), ("tokenizer_name", "--tokenizer_name")):
        with pytest.raises(SettingError, match=flag):
            tiny.load(pipelines("stable_diffusion"), **{name: str(tmp_path / "nowhere")})
