"""Models that want more than text, and networks that do not belong together, are named before any weights are opened."""

import json
import shutil

import pytest

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of
from tests import tiny

FLAG = "--pretrained_model_name_or_path"


@pytest.fixture
def bare(pipelines, tmp_path):
    """A pipeline folder's configurations without any weights: whatever opens those fails. `changes` are put into the files named."""

    def build(name: str, **changes):
        folder = tmp_path / name
        shutil.copytree(pipelines(name), folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
        for part, values in changes.items():
            path = folder / part / "config.json" if part != "index" else folder / "model_index.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return folder

    return build


def refused(folder, **source) -> SettingError:
    where = ModelSource(pretrained_model_name_or_path=str(folder), **source)
    with pytest.raises(SettingError) as caught:
        family_of(where).load(where)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert "cannot be loaded" not in str(caught.value) and "holds no weights" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_folders_whose_parts_belong_together_are_their_familys(bare, name):
    assert family_of(ModelSource(pretrained_model_name_or_path=str(bare(name)))).name


@pytest.mark.parametrize(
    ("name", "channels", "output"),
    [
        ("stable_diffusion", 9, "this UNet is for inpainting (9 channels)"),
        ("stable_diffusion", 8, "this UNet is for editing or following a picture (8 channels)"),
        ("stable_diffusion", 5, "this UNet is for following a depth map (5 channels)"),
        ("stable_diffusion", 7, "this UNet is an upscaler (7 channels)"),
        ("stable_diffusion", 12, "this UNet is for something else than drawing from text (12 channels)"),
        ("sdxl", 9, "this UNet is for inpainting (9 channels)"),
        ("sdxl", 8, "this UNet is for editing or following a picture (8 channels)"),
        ("flux", 96, "this transformer is for inpainting (96 channels)"),
        ("flux", 32, "this transformer is for editing or following a picture (32 channels)"),
    ],
)
def test_a_network_with_more_inputs_than_latents_is_reported_by_what_it_is_for(bare, name, channels, output):
    part, made = ("unet", 4) if name != "flux" else ("transformer", 16)
    error = refused(bare(name, **{part: {"in_channels": channels, "out_channels": made}}))
    assert error.setting == FLAG and output in error.reason


@pytest.mark.parametrize(
    ("name", "pipeline", "output"),
    [
        ("stable_diffusion", "StableDiffusionInpaintPipeline", "for inpainting"),
        ("stable_diffusion", "StableDiffusionInstructPix2PixPipeline", "for editing pictures"),
        ("stable_diffusion", "StableDiffusionDepth2ImgPipeline", "for following a depth map"),
        ("stable_diffusion", "StableDiffusionLatentUpscalePipeline", "an upscaler"),
        ("stable_diffusion", "StableDiffusionControlNetPipeline", "for following another picture"),
        ("stable_diffusion", "StableUnCLIPPipeline", "for variations of a picture"),
        ("stable_diffusion", "StableDiffusionImageVariationPipeline", "for variations of a picture"),
        ("sdxl", "StableDiffusionXLImg2ImgPipeline", "a refiner"),
        ("flux", "FluxFillPipeline", "for inpainting"),
        ("flux", "FluxKontextPipeline", "for editing pictures"),
    ],
)
def test_a_pipeline_for_another_task_is_reported_by_its_class(bare, name, pipeline, output):
    assert f"{pipeline} is {output}" in refused(bare(name, index={"_class_name": pipeline})).reason


@pytest.mark.parametrize(
    ("name", "changes", "output"),
    [
        ("stable_diffusion", {"vae": {"latent_channels": 16}}, "the VAE makes 16 channels, and this UNet works on 4"),
        ("sdxl", {"unet": {"in_channels": 16, "out_channels": 16}}, "the VAE makes 4 channels, and this UNet works on 16"),
        ("flux", {"vae": {"latent_channels": 16}}, "the VAE makes 16 channels, and this transformer works on 4"),
        ("stable_diffusion", {"vae": {"_class_name": "AutoencoderTiny"}}, "the VAE's class is AutoencoderTiny"),
        ("stable_diffusion", {"unet": {"class_embed_type": "projection"}}, "a picture's embedding"),
        ("stable_diffusion", {"unet": {"num_class_embeds": 1000}}, "class labels"),
        ("sdxl", {"unet": {"encoder_hid_dim_type": "ip_image_proj"}}, "IP-Adapter"),
        ("stable_diffusion", {"unet": {"addition_embed_type": "text_time"}}, "not Stable Diffusion's"),
        ("sdxl", {"unet": {"addition_embed_type": None}}, "not Stable Diffusion XL's"),
        ("stable_diffusion", {"unet": {"_class_name": "SD3Transformer2DModel"}}, "its unet is of class SD3Transformer2DModel"),
        ("flux", {"index": {"transformer": ["diffusers", "UNet2DConditionModel"]}}, "its transformer is of class UNet2DConditionModel"),
        ("sdxl", {"text_encoder_2": {"hidden_size": 48}}, "reads text of width 64; 80 come from text_encoder and text_encoder_2"),
        ("stable_diffusion", {"text_encoder": {"hidden_size": 48}}, "reads text of width 32; 48 come from text_encoder"),
        ("flux", {"text_encoder_2": {"d_model": 48}}, "reads text of width 32; 48 come from text_encoder_2"),
        ("deepfloyd", {"text_encoder": {"d_model": 48}}, "reads text of width 32; 48 come from text_encoder"),
        ("deepfloyd", {"unet": {"in_channels": 6}}, "this UNet takes 6 channels and gives 3; DeepFloyd IF's takes 3"),
        ("deepfloyd", {"unet": {"class_embed_type": "timestep"}}, "class labels"),
        ("deepfloyd_superresolution", {"unet": {"in_channels": 3}}, "this UNet takes 3 channels and gives 3"),
        ("deepfloyd_superresolution", {"unet": {"class_embed_type": None}}, "this UNet takes no class label"),
        ("upscaler", {"unet": {"in_channels": 4}}, "this UNet takes 4 channels and gives 4"),
        ("deepfloyd_superresolution", {"index": {"image_noising_scheduler": [None, None]}}, "has no image_noising_scheduler"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused(bare, name, changes, output):
    error = refused(bare(name, **changes))
    assert error.setting == FLAG and output in error.reason


@pytest.mark.parametrize(
    ("name", "index", "output"),
    [
        ("sdxl", {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}, "SDXL's refiner"),
        ("sdxl", {"text_encoder_2": [None, None]}, "has no text_encoder_2"),
        ("stable_diffusion", {"text_encoder": [None, None]}, "has no text_encoder"),
        (
            "stable_diffusion",
            {"text_encoder": [None, None], "image_encoder": ["transformers", "CLIPVisionModelWithProjection"]},
            "for variations of a picture",
        ),
        ("stable_diffusion", {"unet": None, "transformer": ["diffusers", "SD3Transformer2DModel"]}, "has no unet"),
        ("flux", {"vae": [None, None], "tokenizer_2": [None, None]}, "has no vae and no tokenizer_2"),
        ("stable_diffusion", {"scheduler": 5}, "has no scheduler"),
    ],
)
def test_a_pipeline_without_a_part_that_is_asked_is_reported_with_the_part(bare, name, index, output):
    assert output in refused(bare(name, index=index)).reason


def test_encoders_that_take_the_place_of_absent_ones_are_checked_too(bare, pipelines):
    """A result of --skip_save_text_encoder is loaded with the base model's encoders."""
    folder = bare("sdxl", index={"text_encoder": [None, None], "text_encoder_2": [None, None]})
    own = {name: tiny.load(pipelines("sdxl")).parts[name] for name in ("text_encoder", "text_encoder_2")}
    source = ModelSource(pretrained_model_name_or_path=str(folder))
    with pytest.raises(SettingError, match="holds no weights"):  # so far, and no further: this folder has none
        family_of(source).load(source, replaced=own)
    with pytest.raises(SettingError, match="reads text of width 64; 57"):
        own["text_encoder"].config.hidden_size = 25
        family_of(source).load(source, replaced=own)


def test_another_vae_is_reported_by_its_own_flag(bare, pipelines, tmp_path):
    other = tmp_path / "vae16"
    tiny.vae(16).save_pretrained(other)
    base = pipelines("stable_diffusion")
    assert refused(base, pretrained_vae_name_or_path=str(other)).setting == "--pretrained_vae_name_or_path"
    inpainting = bare("stable_diffusion", unet={"in_channels": 9})
    error = refused(inpainting, pretrained_vae_name_or_path=str(other))
    assert error.setting == FLAG and "for inpainting (9 channels)" in error.reason, "another VAE does not hide what the model is"


def test_distilled_models_and_models_of_other_sizes_are_taken(bare):
    """LCM's UNet has a place for the guidance, and does without; turbo models differ in their weights alone."""
    lcm = {"time_cond_proj_dim": 256, "sample_size": 96, "cross_attention_dim": [32, 32]}
    assert family_of(ModelSource(pretrained_model_name_or_path=str(bare("stable_diffusion", unet=lcm))))


@pytest.mark.parametrize(
    ("config", "output"),
    [
        ({"_class_name": "ControlNetModel"}, "is a ControlNetModel, which steers a base model and is none"),
        ({"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel alone, one part of a pipeline"),
        ({"architectures": ["CLIPTextModel"]}, "is a CLIPTextModel alone"),
        ([], "holds no model_index.json"),
        ({"architectures": []}, "holds no model_index.json"),
    ],
)
def test_a_part_in_the_place_of_a_pipeline_is_reported_by_its_class(tmp_path, config, output):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert output in refused(tmp_path).reason


@pytest.mark.parametrize("index", ["[]", '"text"', "5"])
def test_an_index_that_is_no_object_is_damaged(bare, index):
    folder = bare("stable_diffusion")
    (folder / "model_index.json").write_text(index)
    assert "model_index.json is damaged" in refused(folder).reason


@pytest.mark.parametrize("verb", ["train", "generate", "evaluate"])
def test_every_verb_refuses_an_inpainting_model_by_name(bare, photos, tmp_path, capsys, verb):
    folder, out = str(bare("sdxl", unet={"in_channels": 9})), str(tmp_path / "out")
    argv = {
        "train": ["train", FLAG, folder, "--instance_data_dir", str(photos), "--class_noun", "dog", "--output_dir", out],
        "generate": ["generate", folder, "a dog", "--output_dir", out],
        "evaluate": ["evaluate", folder, "--instance_data_dir", str(photos), "--class_noun", "dog", "--output_dir", out],
    }[verb]
    assert main(argv) == 2
    output = capsys.readouterr().err
    assert "this UNet is for inpainting (9 channels)" in output and "Traceback" not in output
