"""Every flag of diffusers' two scripts is known here with the same meaning, or refused with a reason; none is ignored in silence."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.parse import read_flags
from dreambooth.families import SDXL, Flux, StableDiffusion
from dreambooth.schema import flags, get
from dreambooth.setup.config import DIFFUSERS, TrainConfig, resolve
from tests.parity import flags as table
from tests.parity.commands import train

LORA_ONLY = ("rank", "lora_dropout")
SPELLINGS = {"_": lambda flag: f"--{flag}", "-": lambda flag: f"--{flag.replace('_', '-')}"}
each_spelling = pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS.keys())


def parsed(*words: str) -> tuple[TrainConfig, list[str]]:
    values, _, remarks = read_flags(words, TrainConfig, aliases=ALIASES)
    return TrainConfig.parse(values), remarks


def leaf(config: TrainConfig, flag: str):
    value = get(config, flags(TrainConfig)[flag].path)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@each_spelling
@pytest.mark.parametrize("row", table.ROWS, ids=str)
def test_flag_means_what_it_means_there(row, spelt):
    method = ("--method", "lora") if row.flag in LORA_ONLY else ()
    config, remarks = parsed(*method, spelt(row.flag), *row.words.split(maxsplit=0))
    assert leaf(config, row.flag) == row.held
    assert remarks == []


@pytest.mark.parametrize("row", [row for row in table.ROWS if row.words], ids=str)
def test_flag_with_an_equals_sign(row):
    method = ("--method", "lora") if row.flag in LORA_ONLY else ()
    config, _ = parsed(*method, f"--{row.flag}={row.words}", "--center_crop")
    assert leaf(config, row.flag) == row.held
    assert config.cropping.center_crop


@each_spelling
@pytest.mark.parametrize(("flag", "words"), table.NOTHING_TO_DO.items())
def test_flag_without_a_job_says_so(flag, words, spelt):
    config, remarks = parsed(spelt(flag), *words.split(), "--center_crop")
    assert len(remarks) == 1 and remarks[0].startswith(f"--{flag}: ")
    assert config.cropping.center_crop


def test_the_table_is_complete():
    """61 flags in the full script, 59 in the one for LoRA, 65 together."""
    named = {row.flag: row for row in table.ROWS}
    others = set(table.NOTHING_TO_DO)
    assert len(named) == len(table.ROWS) and not others & set(named)
    full = {name for name, row in named.items() if row.full is not table.ABSENT} | others
    lora = {name for name, row in named.items() if row.lora is not table.ABSENT} | others - {"set_grads_to_none"}
    assert (len(full), len(lora), len(full | lora)) == (61, 59, 65)


@pytest.mark.parametrize("flag", LORA_ONLY)
def test_a_flag_for_lora_names_its_method(flag, capsys):
    assert train("--instance_data_dir", "photos", f"--{flag}", "0.5" if "dropout" in flag else "8") == 2
    output = capsys.readouterr().err
    assert f"--{flag}" in output and "--method lora" in output


def defaults():
    for row in table.ROWS:
        for kind, default in (("full", row.full), ("lora", row.lora)):
            if default is table.ABSENT or default is table.NEEDED:
                continue
            yield pytest.param(kind, row.flag, default, id=f"{kind}-{row.flag}")


@pytest.mark.parametrize(("kind", "flag", "default"), list(defaults()))
def test_preset_diffusers_is_the_scripts_defaults(kind, flag, default):
    ours, _ = table.DIFFERENT.get(flag, (default, ""))
    for family in (StableDiffusion, SDXL, Flux):
        config = resolve(TrainConfig.parse({"preset": "diffusers", "method": {"kind": kind}}), family)
        assert leaf(config, flag) == ours


def test_a_flag_wins_over_the_preset():
    config = TrainConfig.parse({"preset": "diffusers", "method": {"kind": "lora"}, "optimization": {"learning_rate": 1e-4}})
    assert resolve(config, StableDiffusion).optimization.learning_rate == 1e-4
    assert DIFFUSERS["lora"]["learning_rate"] == 5e-4


def test_one_epoch_by_hand_is_one_epoch(pipelines):
    model = {"pretrained_model_name_or_path": str(pipelines("stable_diffusion"))}
    config = resolve(TrainConfig.parse({"model": model, "loop": {"num_train_epochs": 1}}), StableDiffusion)
    assert config.loop.max_train_steps is None


FORK = {
    "pretrained_vae_name_or_path": ("vae", {"pretrained_vae_name_or_path": "vae"}),
    "concepts_list": ("two.json", {"concepts_list": "two.json"}),
    "save_sample_prompt": ("a dog", {"validation_prompt": "a dog"}),
    "save_sample_negative_prompt": ("blur", {"validation_negative_prompt": "blur"}),
    "n_save_sample": ("2", {"num_validation_images": 2}),
    "save_guidance_scale": ("5", {"validation_guidance_scale": 5.0}),
    "save_infer_steps": ("30", {"validation_inference_steps": 30}),
    "save_interval": ("50", {"checkpointing_steps": 50, "validation_steps": 50}),
    "save_min_steps": ("20", {"validation_min_steps": 20}),
    "log_interval": ("5", {"log_interval": 5}),
    "not_cache_latents": ("", {"cache_latents": False}),
    "offset_noise": ("0.07", {"offset_noise": 0.07}),
}
"""The ShivamShrirao fork's flags, and what they become."""


@each_spelling
@pytest.mark.parametrize("flag", FORK)
def test_flag_of_the_fork(flag, spelt):
    words, held = FORK[flag]
    config, _ = parsed(spelt(flag), *words.split(maxsplit=0), "--center_crop")
    assert {name: leaf(config, name) for name in held} == held
    assert config.cropping.center_crop


NEWER = ("caption_column", "dataset_name", "image_column", "repeats", "max_sequence_length", "pretrained_vae_model_name_or_path",
         "do_edm_style_training", "adam_weight_decay_text_encoder", "upcast_before_saving")  # fmt: skip


@pytest.mark.parametrize("flag", NEWER)
def test_flag_of_the_newer_scripts_is_known_or_refused_with_a_reason(flag):
    assert flag in flags(TrainConfig) or flag in ALIASES


def test_the_page_for_people_from_diffusers_names_every_flag():
    page = (Path(__file__).parents[2] / "docs" / "from-diffusers.md").read_text(encoding="utf-8")
    names = [row.flag for row in table.ROWS] + [*table.NOTHING_TO_DO, *FORK]
    assert [name for name in names if f"`--{name}`" not in page] == []
