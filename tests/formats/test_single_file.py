"""Checkpoints in one file: in, by our command line, and out again, bit for bit; and what is none, refused with nothing written."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import load_file, save_file

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.families import FAMILIES, ModelSource, family_of
from dreambooth.families.single_file import TRANSFORMERS
from dreambooth.formats.checkpoints import checkpoint, marks
from tests import tiny
from tests.cli.conftest import state

SHAPES = ["sd_shaped", "sdxl_shaped", "v_prediction"]


@pytest.fixture(scope="module")
def files(shaped, tmp_path_factory):
    """A single file with a folder of configurations and tokenizers beside it, and no weights in that: `files("sdxl_shaped")`."""
    root = tmp_path_factory.mktemp("files")

    def made(name: str) -> tuple[Path, Path]:
        path, folder = root / f"{name}.safetensors", root / name
        if not path.exists():
            shutil.copytree(shaped(name), folder, ignore=shutil.ignore_patterns("*.safetensors"))
            pipe = tiny.load(shaped(name)).pipe
            pipe.unet.half()
            save_file(checkpoint(pipe) | marks(pipe), path)
        return path, folder

    return made


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_that_comes_in_goes_out_bit_for_bit(files, name, tmp_path, capsys):
    """Its UNet in half, its VAE and encoders whole."""
    path, folder = files(name)
    words = ["export", str(path), "--single_file_config", str(folder), "--as", "single_file", "--output", str(tmp_path / "out.safetensors")]
    assert main(words) == 0, capsys.readouterr().err
    found, again = load_file(path), load_file(tmp_path / "out.safetensors")
    assert found.keys() == again.keys()
    assert all(again[key].dtype == value.dtype and torch.equal(again[key], value) for key, value in found.items())


@pytest.mark.parametrize("name", SHAPES[:2])
def test_the_same_picture_is_drawn_as_from_the_folder_and_it_is_converted_once(files, shaped, name):
    path, folder = files(name)
    source = ModelSource(pretrained_model_name_or_path=str(path), single_file_config=str(folder))
    place = source.folder()
    before = state(place)
    plain = tiny.load(shaped(name)).pipe
    plain.unet.half().float()
    assert torch.equal(tiny.picture(family_of(source).load(source).pipe), tiny.picture(plain))
    assert source.folder() == place and state(place) == before


def test_an_sdxl_that_says_that_it_predicts_v_is_sampled_so(files, tmp_path):
    path, folder = files("sdxl_shaped")
    save_file(load_file(path) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, tmp_path / "v.safetensors")
    source = ModelSource(pretrained_model_name_or_path=str(tmp_path / "v.safetensors"), single_file_config=str(folder))
    family = family_of(source).load(source)
    assert family.process.prediction == "v_prediction" and family.pipe.scheduler.config.rescale_betas_zero_snr
    assert marks(family.pipe).keys() == {"v_pred", "ztsnr"}


WRONG = {
    "no file": (lambda path: path.unlink(), "there is no file"),
    "half a file": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot be read as safetensors"),
    "a text": (lambda path: path.write_text("a picture"), "cannot be read as safetensors"),
    "a LoRA": (
        lambda path: save_file({"unet.a.lora_A.weight": torch.zeros(2, 2), "unet.a.lora_B.weight": torch.zeros(2, 2)}, path), "is a LoRA"
    ),
    "8 bits": (lambda path: changed(path, lambda t: {n: v.to(torch.float8_e4m3fn) for n, v in t.items()}), "in 8 bits (fp8)"),
    "scaled": (lambda path: changed(path, lambda t: t | {"scaled_fp8": torch.zeros(0)}), "in 8 bits (fp8)"),
    "no VAE": (lambda path: changed(path, lambda t: {n: v for n, v in t.items() if "first_stage" not in n}), "holds no VAE"),
    "half of its weights": (
        lambda path: changed(path, lambda t: {n: v for n, v in t.items() if "output_blocks.5" not in n}), "--single_file_config"
    ),
    "inpainting": (
        lambda path: changed(path, lambda t: t | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}), "9 channels"
    ),
    "no network that is known": (lambda path: save_file({"down_blocks.0.a.weight": torch.zeros(2, 2)}, path), "is a whole network"),
}  # fmt: skip


def changed(path: Path, change) -> None:
    save_file({name: value.contiguous().clone() for name, value in change(load_file(path)).items()}, path)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_checkpoint_is_refused_with_nothing_converted(files, tmp_path, monkeypatch, case):
    path, folder = files("sd_shaped")
    own = tmp_path / "own.safetensors"
    shutil.copy(path, own)
    change, words = WRONG[case]
    change(own)
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SettingError) as caught:
        source = ModelSource(pretrained_model_name_or_path=str(own), single_file_config=str(folder))
        source.refuse_missing()
        source.folder()
    assert words in str(caught.value) and len(str(caught.value)) < 420
    assert not list(tmp_path.rglob("*.json"))


FLOWS = {
    "double_blocks.0.img_attn.qkv.weight": "FluxTransformer2DModel",
    "joint_blocks.0.context_block.attn.qkv.weight": "SD3Transformer2DModel", "txtfusion.projector.weight": "Krea2Transformer2DModel",
    "layers.0.adaLN_modulation.0.weight": "ZImageTransformer2DModel", "blocks.0.cross_attn.q_linear.weight": "PixArt",
    "transformer_blocks.0.img_mlp.net.0.proj.weight": "QwenImageTransformer2DModel",
    "blocks.0.mlp.inverted_conv.conv.weight": "SanaTransformer2DModel", "single_stream_modulation.lin.weight": "Flux2Transformer2DModel",
}  # fmt: skip


@pytest.mark.parametrize("start", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flows_single_file_is_refused_with_how_it_becomes_a_pipeline(tmp_path, name, start):
    path = tmp_path / "flow.safetensors"
    save_file({f"{start}{name}": torch.zeros(2, 2)}, path)
    with pytest.raises(SettingError) as caught:
        ModelSource(pretrained_model_name_or_path=str(path)).refuse_missing()
    assert caught.value.setting == "--pretrained_model_name_or_path" and FLOWS[name] in str(caught.value)
    assert "hf download" in caught.value.fix and ("from_single_file" in caught.value.fix) == (FLOWS[name] != "PixArt")


def test_every_flow_with_a_class_that_opens_single_files_is_known_by_it():
    kinds = {kind for _, kind, _ in TRANSFORMERS.values() if kind}
    assert all(kind in SINGLE_FILE_LOADABLE_CLASSES for kind in kinds)
    flows = {family.__name__ for family in FAMILIES if family.denoiser_name == "transformer"}
    assert len(flows) - len(TRANSFORMERS) <= 1, "a new family, or FLUX.2's two, which have one network"


def test_configurations_that_are_missing_or_another_kinds_are_named(files, tmp_path):
    path, other = files("sd_shaped")[0], files("sdxl_shaped")[1]
    for config, words in ((None, "--include"), (str(other), "is of a StableDiffusionXLPipeline"), (str(tmp_path), "no model_index.json")):
        with pytest.raises(SettingError, match=words):
            ModelSource(pretrained_model_name_or_path=str(path), single_file_config=config, cache_dir=str(tmp_path)).refuse_missing()
    with pytest.raises(SettingError, match="--single_file_config"):
        ModelSource(pretrained_model_name_or_path="toybox", single_file_config=str(other)).refuse_missing()


def test_a_pickle_is_opened_when_it_may_be(files, tmp_path):
    path, folder = files("sd_shaped")
    torch.save({"state_dict": load_file(path)}, tmp_path / "model.ckpt")
    source = ModelSource(pretrained_model_name_or_path=str(tmp_path / "model.ckpt"), single_file_config=str(folder))
    with pytest.raises(SettingError, match="--allow_pickle"):
        source.refuse_missing()
    source = source.updated({("allow_pickle",): True})
    assert (source.folder() / "unet" / "diffusion_pytorch_model.safetensors").is_file()


def test_a_run_learns_on_a_single_file_and_is_drawn_from(files, photos, tmp_path, capsys):
    path, folder = files("sd_shaped")
    words = {
        "pretrained_model_name_or_path": path, "single_file_config": folder, "instance_data_dir": photos, "instance_prompt": "a sks dog",
        "max_train_steps": 1, "resolution": 64, "output_dir": tmp_path / "run", "method": "lora", "rank": 2,
    }  # fmt: skip
    assert main(["train", "--skip_final_inference", *(str(word) for name, value in words.items() for word in (f"--{name}", value))]) == 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"from_single_file('{path}'" in card.replace('"', "'") and "base_model:" not in card
    out = ["--num_images", "1", "--num_inference_steps", "1"]
    assert main(["generate", str(tmp_path / "run"), "a sks dog", *out]) == 0, capsys.readouterr().err
    assert main(["generate", str(path), "a dog", "--single_file_config", str(folder), *out, "--output_dir", str(tmp_path / "out")]) == 0
