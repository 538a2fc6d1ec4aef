"""A TOML and folders of kohya's trainers, read as settings of ours."""

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.schema import flags, get
from dreambooth.setup.given import train_config
from dreambooth.setup.kohya import SAME, read_kohya
from tests import tiny

SDXL = """
pretrained_model_name_or_path = "sdxl"
train_data_dir = "{root}/img"
reg_data_dir = "{root}/reg"
output_dir = "{root}/out"
output_name = "rex"
resolution = "1024,1024"
enable_bucket = true
bucket_no_upscale = true
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
unet_lr = 1e-4
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine"
mixed_precision = "bf16"
gradient_checkpointing = true
max_train_steps = 1600
min_snr_gamma = 5
sdpa = true
clip_skip = 1
save_last_n_steps = 3

[saving]
save_every_n_steps = 200
"""


def settings(root, text: str = SDXL, **given):
    (root / "kohya.toml").write_text(text.replace("{root}", str(root)))
    return train_config(config=root / "kohya.toml", **given)


def value(config, name: str):
    return get(config, flags(type(config))[name].path)


@pytest.fixture
def folders(tmp_path):
    tiny.photos(tmp_path / "img" / "10_ohwx dog")
    tiny.photos(tmp_path / "reg" / "1_dog")
    return tmp_path


def test_a_toml_of_kohyas_gives_the_same_training(folders, caplog):
    config = settings(folders)
    expected = {
        "pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
        "instance_data_dir": str(folders / "img" / "10_ohwx dog"), "instance_prompt": "ohwx dog",
        "class_data_dir": str(folders / "reg" / "1_dog"), "class_prompt": "dog", "with_prior_preservation": True, "resolution": 1024,
        "rank": 32, "lora_alpha": 16, "learning_rate": 1e-4, "use_8bit_adam": True, "lr_scheduler": "cosine", "mixed_precision": "bf16",
        "gradient_checkpointing": True, "max_train_steps": 1600, "snr_gamma": 5, "aspect_ratio_buckets": True, "checkpointing_steps": 200,
    }  # fmt: skip
    assert {name: value(config, name) for name in expected} == expected and config.method.kind == "lora"
    assert "save_last_n_steps" in caplog.text and "sdpa" not in caplog.text


def test_the_command_line_counts_more_than_the_file(folders):
    config = settings(folders, max_train_steps=10, instance_prompt="a [V] dog")
    assert (value(config, "max_train_steps"), value(config, "instance_prompt")) == (10, "a [V] dog")


@pytest.mark.parametrize(
    ("module", "args", "kind"),
    [
        ("networks.lora_flux", "[]", "lora"), ("lycoris.kohya", '["algo=loha"]', "loha"),
        ("lycoris.kohya", '["conv_dim=4", "algo=lokr"]', "lokr"),
    ],
)  # fmt: skip
def test_the_network_module_names_the_method(folders, module, args, kind):
    text = f'train_data_dir = "{{root}}/img"\nnetwork_module = "{module}"\nnetwork_args = {args}\nnetwork_dim = 8\n'
    config = settings(folders, text)
    assert config.method.kind == kind and value(config, "rank") == 8


def test_a_plain_folder_of_photos_stays_what_it_is(tmp_path):
    tiny.photos(tmp_path / "photos")
    config = settings(tmp_path, 'train_data_dir = "{root}/photos"\n')
    assert value(config, "instance_data_dir") == str(tmp_path / "photos") and value(config, "instance_prompt") is None


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('optimizer_type = "Lion"', "optimizer_type"), ('network_module = "networks.oft"', "network_module"),
        ('network_module = "lycoris.kohya"\nnetwork_args = ["algo=ia3"]', "network_module"), ('resolution = "768,512"', "resolution"),
        ('reg_data_dir = "{root}"', "reg_data_dir"), ("max_train_steps = -3", "max_train_steps"),
        ("clip_skip = 2", "clip_skip"), ("no equals sign", "TOML"),
    ],
)  # fmt: skip
def test_what_would_be_another_training_is_refused_by_its_name(folders, line, named):
    with pytest.raises(SettingError, match=named):
        settings(folders, line + "\n")


def test_two_subjects_are_not_learned_as_one(folders):
    tiny.photos(folders / "img" / "5_zwx cat")
    with pytest.raises(SettingError, match="10_ohwx dog, 5_zwx cat"):
        settings(folders)


def test_every_setting_that_a_key_is_read_as_exists(tmp_path):
    (tmp_path / "empty.toml").write_text("")
    assert read_kohya(tmp_path / "empty.toml") == {}
    assert {name for name in SAME.values() if name} <= flags(type(train_config())).keys()
