"""The encoders against transformers' own, the published transforms, the cache, and what is said when there is no encoder."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from dreambooth.core.errors import SettingError
from dreambooth.evaluation.config import EvaluateConfig
from dreambooth.metrics import Undefined
from dreambooth.metrics.encoders import EncoderSettings, encoders_beside, picture_hash
from dreambooth.metrics.networks import NETWORKS
from dreambooth.metrics.perceptual import KIND, NAMES, POOLED, SCALE, SHIFT, AlexNetLPIPS, all_distances, convert_lpips, load_perceptual
from dreambooth.metrics.preprocessing import DINO_PUBLISHED, IMAGENET, for_dino, read
from dreambooth.schema import flags
from dreambooth.setup.checks import unused_settings
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.given import train_config
from tests.metrics import encoders
from tests.metrics.encoders import picture

TEXTS = ["a dog", "a dog on the beach in the snow", "a cat"]


def test_clip_is_transformers_own_clip(encoder_folders, loaded):
    """Scores of CLIPModel with CLIPImageProcessor and CLIPTokenizer, the pictures larger than the network and not square."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = encoder_folders["clip"]
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    pictures = [picture(1, (48, 48)), picture(2, (60, 40)), picture(3, (24, 24))]
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt").pixel_values
    tokens = CLIPTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**tokens, pixel_values=pixels)
    ours = loaded()
    assert torch.allclose(F.normalize(ours.clip(pictures), dim=-1), out.image_embeds, atol=2e-5)
    assert torch.allclose(F.normalize(ours.words(TEXTS), dim=-1), out.text_embeds, atol=2e-5)


def test_text_longer_than_the_network_is_cut_and_not_refused(loaded):
    assert loaded().words(["a dog on the beach " * 60]).isfinite().all()


def test_dino_is_the_class_token(encoder_folders, loaded):
    from transformers import ViTModel

    model = ViTModel.from_pretrained(encoder_folders["dino"], dtype=torch.float32, add_pooling_layer=False).eval()
    ours = loaded()
    preprocess = ours._network("dino").preprocess
    with torch.no_grad():
        token = model(pixel_values=preprocess([picture(1)])).last_hidden_state[:, 0]
    assert torch.allclose(ours.dino([picture(1)]), token, atol=1e-6)


def test_of_a_residual_network_dino_is_the_mean_of_its_last_feature_map(tmp_path):
    """DINO's ResNet-50 has no class token; its published embedding is the pooled one."""
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessorPil

    torch.manual_seed(4)
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")).eval()
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    ours = EncoderSettings(dino_encoder=str(tmp_path)).load(device=torch.device("cpu"))
    preprocess = ours._network("dino").preprocess
    assert preprocess.crop == 64 and for_dino(tmp_path, None) == preprocess and for_dino(tmp_path / "none", None) == DINO_PUBLISHED
    with torch.no_grad():
        pooled = model(pixel_values=preprocess([picture(1)])).pooler_output.flatten(1)
    assert torch.allclose(ours.dino([picture(1)]), pooled, atol=1e-6)


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_is_a_dino_too_by_its_class_token_and_its_folders_transform(registers, tmp_path):
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, ViTImageProcessorPil

    torch.manual_seed(4)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 42, "patch_size": 14, "mlp_ratio": 2}
    own = {"num_register_tokens": registers} if registers else {}
    kind, config = (Dinov2WithRegistersModel, Dinov2WithRegistersConfig) if registers else (Dinov2Model, Dinov2Config)
    model = kind(config(**sizes, **own)).eval()
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    ours = EncoderSettings(dino_encoder=str(tmp_path)).load(device=torch.device("cpu"))
    preprocess = ours._network("dino").preprocess
    assert preprocess.crop == 28
    with torch.no_grad():
        token = model(pixel_values=preprocess([picture(1)])).last_hidden_state[:, 0]
    assert torch.allclose(ours.dino([picture(1)]), token, atol=1e-6)


def test_dino_of_224_pixels_gets_its_published_transform_whatever_the_folder_says(tmp_path):
    """facebook/dino-vits16's processor on the Hub squashes to 224 x 224: other numbers than DINO's own transform."""
    from transformers import ViTImageProcessorPil

    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(tmp_path)
    assert for_dino(tmp_path, 224) == DINO_PUBLISHED
    assert (DINO_PUBLISHED.resize, DINO_PUBLISHED.crop, DINO_PUBLISHED.resample) == (256, 224, "bicubic")
    assert for_dino(tmp_path, 128).crop == 224 and for_dino(tmp_path / "none", 128).crop == 128


def test_the_published_transform_step_by_step():
    image = picture(5, (300, 200))
    resized = image.resize((int(256 * 300 / 200), 256), Image.Resampling.BICUBIC)
    left = round((resized.width - 224) / 2)
    values = np.asarray(resized.crop((left, 16, left + 224, 240)), dtype=np.float32) / 255
    expected = (values - np.array(IMAGENET[0], dtype=np.float32)) / np.array(IMAGENET[1], dtype=np.float32)
    assert np.allclose(DINO_PUBLISHED([image])[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_processors_of_every_form_are_read(tmp_path):
    forms = (
        ('{"size": 32}', (32, 32)),
        ('{"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": true}', (40, 32)),
        ('{"size": {"height": 32, "width": 32}, "crop_size": {"height": 24}, "do_center_crop": false}', (32, 32)),
    )
    for text, sides in forms:
        (tmp_path / "preprocessor_config.json").write_text(text)
        found = read(tmp_path)
        assert found and (found.resize, found.crop) == sides


def test_what_was_seen_is_not_computed_again(loaded):
    ours = loaded()
    first = ours.dino([picture(1), picture(2)])
    ours.models.clear()  # the network could not be asked again
    ours._network = lambda name: None
    assert torch.equal(ours.dino([picture(2), picture(1).copy()]), first.flip(0))
    assert picture_hash(picture(1)) == picture_hash(picture(1).convert("RGBA")) != picture_hash(picture(2))


def test_lpips_is_the_formula(tmp_path):
    """The distance written out as Zhang et al. have it, on random weights of the real shapes."""
    alexnet, heads = encoders.lpips_states()
    model = load_perceptual(convert_lpips(alexnet, heads, tmp_path / "lpips", size=64), "--lpips_encoder")
    assert isinstance(model, AlexNetLPIPS) and KIND == "lpips-alex" and "64 px" in model.name
    x, y = (model.preprocess([picture(n, (64, 64))]) for n in (1, 2))
    shift, scale = torch.tensor(SHIFT)[:, None, None], torch.tensor(SCALE)[:, None, None]
    strides, paddings, total = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), 0.0
    a, b = ((z - shift) / scale for z in (x, y))
    for number, name in enumerate(NAMES):
        if POOLED[number]:
            a, b = F.max_pool2d(a, 3, 2), F.max_pool2d(b, 3, 2)
        weight, bias = alexnet[f"{name}.weight"], alexnet[f"{name}.bias"]
        a, b = (F.relu(F.conv2d(z, weight, bias, strides[number], paddings[number])) for z in (a, b))
        difference = (a / (a.norm(dim=1, keepdim=True) + 1e-10) - b / (b.norm(dim=1, keepdim=True) + 1e-10)).square()
        total += float(F.conv2d(difference, heads[f"lin{number}.model.1.weight"]).mean())
    with torch.no_grad():
        found = all_distances(torch.cat([model.embed(x), model.embed(y)]))
    assert found[0, 1].item() == pytest.approx(total, rel=1e-5) and total > 0
    assert torch.equal(found, found.T) and found.diagonal().eq(0).all()


def test_lpips_weights_of_another_kind_are_refused(tmp_path):
    alexnet, heads = encoders.lpips_states()
    with pytest.raises(SettingError, match=r"has no features\.3\.bias"):
        convert_lpips({k: v for k, v in alexnet.items() if k != "features.3.bias"}, heads, tmp_path)
    with pytest.raises(SettingError, match="no head lin4"):
        convert_lpips(alexnet, {k: v for k, v in heads.items() if not k.startswith("lin4")}, tmp_path)
    with pytest.raises(SettingError, match="negative"):
        convert_lpips(alexnet, {k: -v for k, v in heads.items()}, tmp_path)
    with pytest.raises(SettingError, match="no perceptual distance"):
        load_perceptual(tmp_path / "nothing", "--lpips_encoder")


def test_the_toyboxs_kind_of_perceptual_distance(tmp_path):
    model = load_perceptual(encoders.resnet_folder(tmp_path / "perceptual"), "--lpips_encoder")
    with torch.no_grad():
        found = all_distances(model.embed(model.preprocess([picture(1), picture(1, (64, 64)), picture(2)])))
    assert found[0, 2] > 0 and found[0, 0] == 0 and found[0, 1] < found[0, 2]


@pytest.mark.parametrize("name", ["dino", "clip"])
def test_an_encoder_that_is_not_here_is_reported_with_the_folder_option(name):
    setting = EncoderSettings(**{f"{name}_encoder": "nobody/nothing-at-all"})
    with pytest.raises(SettingError, match=rf"--{name}_encoder: nobody/nothing-at-all is neither .* pass --{name}_encoder FOLDER"):
        setting.load(device=torch.device("cpu")).ready([name])


def test_a_folder_of_another_kind_is_reported(encoder_folders):
    setting = EncoderSettings(clip_encoder=str(encoder_folders["lpips"]))
    with pytest.raises(SettingError, match=r"--clip_encoder: .* lacks \d+ weights of a CLIPModel"):
        setting.load(device=torch.device("cpu")).ready(["clip"])


def test_encoders_that_were_left_out_make_metrics_undefined(encoder_folders):
    ours = EncoderSettings(dino_encoder="none", clip_encoder=str(encoder_folders["clip"])).load(device=torch.device("cpu"))
    assert set(ours.ready(["dino", "clip", "lpips"])) == {"clip"}
    with pytest.raises(Undefined, match="--dino_encoder FOLDER"):
        ours.dino([picture(1)])


def test_defaults_are_the_encoders_beside_the_base_model_else_the_papers(tmp_path):
    assert EncoderSettings().beside("owner/model") == EncoderSettings(
        dino_encoder="facebook/dino-vits16", clip_encoder="openai/clip-vit-base-patch32", lpips_encoder="none",
        dinov2_encoder="none", siglip_encoder="none",
    )  # fmt: skip
    for part in ("pipeline", "encoders/clip", "encoders/instance", "encoders/perceptual"):
        (tmp_path / part).mkdir(parents=True)
    found = EncoderSettings(clip_encoder="mine").beside(str(tmp_path / "pipeline"))
    assert found.clip_encoder == "mine" and found.dino_encoder == str(tmp_path / "encoders" / "instance")
    assert found.lpips_encoder == str(tmp_path / "encoders" / "perceptual")
    assert encoders_beside(str(tmp_path / "elsewhere")) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_known_by_its_declaration_alone(name, encoder_folders, extra_folders):
    """Its flags of `train` and `evaluate`, what it is beside a base model, that it can be left out, and its row in protocols."""
    network, folder = NETWORKS[name], {**encoder_folders, **extra_folders}[name]
    for tree in (TrainConfig, EvaluateConfig):
        assert flags(tree)[network.setting()].help == network.help
    asked = EncoderSettings.parse({network.setting(): str(folder)})
    assert asked.given() == {network.setting(): str(folder)}
    loaded = asked.load(device=torch.device("cpu"))
    label = loaded.ready()[name]
    assert label and loaded.embed(name, [picture(1), picture(2)]).shape[0] == 2
    assert EncoderSettings.parse({network.setting(): "none"}).given() == {}
    with pytest.raises(Undefined, match=f"--{network.setting()}"):
        EncoderSettings().load(device=torch.device("cpu")).embed(name, [picture(1)])
    assert any(setting == f"--{network.setting()}" for setting in map(first_word, unused_settings(train_config(**asked.given()))))


def first_word(sentence: str) -> str:
    return sentence.split(" ")[0]
