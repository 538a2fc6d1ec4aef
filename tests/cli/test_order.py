"""What can be seen to be wrong is refused before a model is loaded or downloaded, and no folder is left behind."""

import json
import shutil
import sys

import pytest
from PIL import Image

from dreambooth.cli import main
from dreambooth.families import source
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config

HUB = "somebody/something"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Nothing asks the Hub for a model, and commands run in the test's own folder."""

    def asked(wanted):
        raise AssertionError(f"the Hub was asked for {wanted.pretrained_model_name_or_path}")

    monkeypatch.setattr(source, "downloaded", asked)
    monkeypatch.setattr(source, "downloaded_configurations", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "sd15").mkdir(parents=True)
    (tmp_path / "file").touch()


@pytest.fixture
def places(tmp_path):
    """Photos of all kinds, each in a folder of its own."""
    for name in ("photos", "broken", "flat", "oddly_called", "masked", "class", "masks/beside"):
        tiny.photos(tmp_path / name)
    (tmp_path / "empty").mkdir()
    whole = (tmp_path / "photos" / "0.png").read_bytes()
    (tmp_path / "broken" / "0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "class" / "0.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "flat" / "0.png")
    (tmp_path / "oddly_called" / "0.txt").write_bytes(b"\xff\xfe\xff a dog")
    tiny.photos(tmp_path / "masked" / "masks", size=(12, 12))
    return tmp_path


WRONG = {
    "photos that are not there": ({"instance_data_dir": "phots"}, ("phots", "Did you mean", "photos")),
    "a folder without photos": ({"instance_data_dir": "empty"}, ("empty",)),
    "a photo that is broken": ({"instance_data_dir": "broken"}, ("0.png",)),
    "a photo of nothing": ({"instance_data_dir": "flat"}, ("0.png", "nothing to see")),
    "a caption that is no text": ({"instance_data_dir": "oddly_called"}, ("0.txt",)),
    "a photo without a mask": ({"masked_loss": True}, ("0.png", "no mask")),
    "a mask of another shape": ({"instance_data_dir": "masked", "masked_loss": True}, ("0.png", "12 x 12")),
    "a folder of masks that is not there": ({"masked_loss": True, "mask_dir": "maks"}, ("maks",)),
    "a list of concepts that is not there": ({"concepts_list": "list.json", "instance_data_dir": None}, ("list.json",)),
    "photos without a name": ({"class_noun": None}, ("--class_noun",)),
    "an identifier of nothing": ({"identifier": " "}, ("--identifier",)),
    "a prompt that nobody is called by": (
        {"class_noun": None, "instance_prompt": "a sks dog", "validation_prompt": "a [V] dog"},
        ("--validation_prompt",),
    ),
    "an identifier that is the placeholder": ({"identifier": "[V]"}, ("--identifier", "[V]")),
    "a new word of two": ({"method": "textual_inversion", "placeholder_token": "my dog"}, ("--placeholder_token", "space")),
    "a new word that is a part of others": ({"method": "textual_inversion", "placeholder_token": "dog"}, ("--placeholder_token", "dog")),
    "two names for one word": (
        {"method": "textual_inversion", "placeholder_token": "<a>", "identifier": "<b>"},
        ("--placeholder_token", "<b>"),
    ),
    "a text encoder that does not learn": ({"method": "textual_inversion", "train_text_encoder": True}, ("--train_text_encoder",)),
    "an output that is a file": ({"output_dir": "file/run"}, ("--output_dir", "cannot be written")),
    "an output where nothing can be": ({"output_dir": "/proc/run"}, ("--output_dir", "/proc/run")),
    "a checkpoint that is not there": ({"resume_from_checkpoint": "checkpoint-5"}, ("checkpoint-5",)),
    "a VAE that is not there": ({"pretrained_vae_name_or_path": "./vae"}, ("--pretrained_vae_name_or_path", "./vae")),
    "a tokenizer that is not there": ({"tokenizer_name": "models/sd14/"}, ("--tokenizer_name", "Did you mean models/sd15?")),
    "an encoder that is not there": (
        {"evaluate_every": 1, "identifier": "sks", "dino_encoder": "./dino"},
        ("--dino_encoder", "no folder ./dino"),
    ),
    "scores of nobody knows what": ({"class_noun": None, "instance_prompt": "a sks dog", "evaluate_every": 1}, ("--evaluate_every",)),
    "a tracker that is not installed": ({"report_to": "wandb"}, ("--report_to", "pip install wandb")),
    "an optimizer that is not installed": ({"optimizer": "prodigy"}, ("--optimizer", "pip install prodigyopt")),
    "an 8-bit optimizer that is not installed": ({"use_8bit_adam": True}, ("--use_8bit_adam", "pip install bitsandbytes")),
    "two optimizers": ({"optimizer": "prodigy", "use_8bit_adam": True}, ("--use_8bit_adam", "Prodigy")),
    "a name that the Hub would not take": ({"push_to_hub": True, "hub_model_id": "my dog"}, ("--hub_model_id", "my dog")),
    "a user whom nobody knows": ({"instance_data_dir": "~nobody-here/photos"}, ("--instance_data_dir", "~nobody-here")),
}  # fmt: skip


def words_of(**settings: object) -> list[str]:
    """A training command."""
    given = {"instance_data_dir": "photos", "class_noun": "dog", "output_dir": "projects/dog/run", **settings}
    words = ["train"]
    for name, value in given.items():
        words += [f"--{name}"] if value is True else [] if value is None else [f"--{name}", str(value)]
    return words


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("where", ["on the Hub", "in a folder"])
def test_a_training_that_cannot_be_is_refused_before_its_model_is_asked_for(places, pipelines, refused, monkeypatch, what, where):
    for package in ("wandb", "prodigyopt", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, package, None)
    settings, words = WRONG[what]
    refused(
        *words_of(pretrained_model_name_or_path=HUB if where == "on the Hub" else pipelines("stable_diffusion"), **settings), words=words
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 17}, ("--resolution", "Use 16")),
        ({"class_data_dir": "class"}, ("class/0.png",)),
        ({"class_data_dir": "file"}, ("--class_data_dir", "cannot be written")),
        ({"class_data_dir": "/proc/dogs"}, ("--class_data_dir", "cannot be written")),
        ({"class_data_dir": "cats"}, ("--class_data_dir", "another prompt")),
        ({"optimizer": "prodigy", "train_text_encoder": True, "text_encoder_lr": 0.1, "learning_rate": 1}, ("--text_encoder_lr",)),
    ],
)
def test_what_a_local_models_configurations_show_is_seen_before_its_weights(places, pipelines, refused, settings, words):
    pytest.importorskip("prodigyopt")
    (places / "cats").mkdir()
    manifest = {"made_with": {"model": "x", "prompt": "a cat", "sampling": {}}, "next_seed": 0, "images": {}, "rejected": {}}
    (places / "cats" / "class_images.json").write_text(json.dumps(manifest))
    refused(*words_of(pretrained_model_name_or_path=pipelines("stable_diffusion"), **{"resolution": 16, **settings}), words=words)


def test_a_layout_that_a_family_has_not_is_refused_before_it_is_loaded(places, pipelines, refused):
    given = {"method": "lora", "output_kohya_format": True, "resolution": 16}
    refused(*words_of(pretrained_model_name_or_path=pipelines("flux"), **given), words=("--output_kohya_format",))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nope", ("no folder ./nope",)),
        ("nope/", ("no folder nope/",)),
        ("nope", ("no model nope",)),
        ("models/sd14/", ("no folder models/sd14/", "Did you mean models/sd15?")),
        ("./models/sd14", ("no folder", "Did you mean models/sd15?")),
        ("some/where/deep", ("no folder some/where/deep",)),
        ("/no/where", ("no folder /no/where",)),
        ("~/no-model-here", ("no folder ~/no-model-here",)),
        ("..\\models\\sd15", ("no folder",)),
        ("models", ("model_index.json",)),
    ],
)
def test_a_misspelt_folder_of_a_model_is_named_as_one(places, refused, name, words):
    refused(*words_of(pretrained_model_name_or_path=name), words=("--pretrained_model_name_or_path", *words))
    for command in (
        ["generate", name, "a dog"],
        ["evaluate", name, "--identifier", "x", "--class_noun", "dog", "--instance_data_dir", "photos"],
    ):
        refused(*command, words=("run:", *(words if "/" in name or name == "models" else ("no run", name))))
    refused("identifier", name, words=("model:", *words[1:]))


@pytest.fixture(scope="module")
def run(pipelines, tmp_path_factory):
    """A finished run of a LoRA whose base model is gone, and one whose is not."""
    root = tmp_path_factory.mktemp("runs")
    base = shutil.copytree(pipelines("stable_diffusion"), root / "base")
    for name, model in (("run", pipelines("stable_diffusion")), ("orphan", base)):
        for _ in train(config(model, root=root, method="lora", class_noun="dog", max_train_steps=1, output_dir=root / name)):
            pass
    shutil.rmtree(base)
    return root / "run"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["a dog", "--prompts", "prompts.txt"], ("--prompts", "prompts.txt")),
        (["a dog", "--output_dir", "file/out"], ("--output_dir", "cannot be written")),
        (["a dog", "--output_dir", "/proc/out"], ("--output_dir", "/proc/out")),
        (["a dog", "--lora", "./lora"], ("--lora", "no folder ./lora")),
        (["a dog", "--lora", "lora.safetensors"], ("--lora", "no folder lora.safetensors")),
        (["a dog", "--device", "quantum"], ("--device",)),
    ],
)
def test_pictures_that_cannot_be_are_refused_before_the_model_is_loaded(places, run, refused, words, printed):
    refused("generate", run, *words, words=printed)


def test_a_placeholder_that_stands_for_nothing_is_seen_before_the_model_is_loaded(places, pipelines, refused):
    refused("generate", pipelines("stable_diffusion"), "a [V] dog", words=("[V]", "--identifier"))
    given = ["--class_noun", "dog", "--instance_data_dir", "photos"]
    refused("evaluate", pipelines("stable_diffusion"), *given, words=("[V]", "--identifier"))


def test_a_base_model_that_is_gone_is_named_before_anything_is_loaded(places, run, refused):
    for command in (["generate", run.parent / "orphan", "a dog"], ["evaluate", run.parent / "orphan"]):
        refused(*command, words=("no folder", "base"))


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--prompts", "prompts.txt"], ("--prompts", "prompts.txt")),
        (["--instance_data_dir", "phots"], ("phots", "Did you mean")),
        (["--output_dir", "file/out"], ("--output_dir", "cannot be written")),
        (["--dino_encoder", "./dino"], ("--dino_encoder", "no folder ./dino")),
        (["--lpips_encoder", "models/sd14/"], ("--lpips_encoder", "no folder")),
        (["--prompts", "file", "--applications", "comics"], ("--applications",)),
        (["--device", "quantum"], ("--device",)),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_anything_is_loaded(places, run, refused, monkeypatch, words, printed):
    monkeypatch.setattr(LoadedEncoders, "ready", lambda *_: pytest.fail("encoders were loaded"))
    refused("evaluate", run, *words, words=printed)


@pytest.mark.parametrize(
    ("settings", "words", "printed"),
    [
        ({"arms": {"a": {}, "b": {"settings": {"pretrained_model_name_or_path": "models/sd14/"}}}}, [], ("no folder models/sd14/",)),
        ({"arms": {"a": {}}, "evaluation": {"prompts": "prompts.txt"}}, [], ("prompts.txt",)),
        ({"arms": {"a": {}}}, ["--clip_encoder", "./clip"], ("--clip_encoder", "no folder ./clip")),
        ({"arms": {"a": {}}}, ["--output_dir", "file/bench"], ("--output_dir", "cannot be written")),
    ],
)
def test_a_bench_that_cannot_be_asks_for_no_model(places, refused, settings, words, printed):
    (places / "plan.yaml").write_text(json.dumps(settings))
    refused("bench", "plan.yaml", "--pretrained_model_name_or_path", HUB, *words, words=printed)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["photos", "copies/new", "--background", "no colour"], ("--background",)),
        (["photos", "file/copies"], ("OUT", "cannot be written")),
        (["photos", "copies/new", "--masks", "maks"], ("maks",)),
        (["photos", "copies/new", "--detector", "./detector"], ("--detector", "no folder ./detector")),
        (["only_broken", "copies/new"], ("none of its photos",)),
    ],
)
def test_copies_that_cannot_be_leave_no_folder(places, refused, words, printed):
    (places / "only_broken").mkdir()
    shutil.copy(places / "broken" / "0.png", places / "only_broken" / "0.png")
    refused("photos", "prepare", *words, words=printed)


def test_sheets_that_cannot_be_written_are_refused_before_anything_is_read(places, pipelines, refused, monkeypatch):
    monkeypatch.setattr("dreambooth.photos.check.check_folder", lambda *_, **__: pytest.fail("photos were read"))
    monkeypatch.setattr("dreambooth.identifier.search.readers", lambda *_, **__: pytest.fail("a model was loaded"))
    for command in (["photos", "check", "photos"], ["identifier", pipelines("stable_diffusion")]):
        refused(*command, "--sheet", "file/sheet.png", words=("--sheet", "cannot be written"))


def test_a_demo_that_cannot_be_written_renders_nothing(refused):
    refused("demo", "--output_dir", "file/demo", words=("--output_dir", "cannot be written"))


@pytest.fixture
def hub(monkeypatch, pipelines):
    """A Hub that has one model, and remembers how often it was fetched."""
    fetched = []

    def download(wanted):
        fetched.append(wanted.pretrained_model_name_or_path)
        return pipelines("stable_diffusion")

    monkeypatch.setattr(source, "downloaded", download)
    monkeypatch.setattr(source, "downloaded_configurations", lambda wanted: pipelines("stable_diffusion"))
    return fetched


def test_a_hub_model_is_fetched_when_all_else_is_right_and_its_photos_are_judged_once(places, hub, capsys):
    few = {"identifier": "sks", "max_train_steps": 1, "skip_final_inference": True}
    assert main([*words_of(pretrained_model_name_or_path=HUB, **few), "--no-with_prior_preservation"]) == 0
    printed = capsys.readouterr().out
    assert set(hub) == {HUB} and printed.count(": 4 pictures") == 1 and printed.index(": 4 pictures") < printed.index(f"Loading {HUB}")


def test_photos_too_small_for_a_hub_model_are_reported_once_it_is_known(places, hub, capsys):
    tiny.photos(places / "small", size=(3, 3))
    assert main(words_of(pretrained_model_name_or_path=HUB, instance_data_dir="small")) == 2
    assert "shorter side" in capsys.readouterr().err


def test_a_model_that_turns_out_damaged_leaves_no_folder(places, pipelines, capsys):
    base = shutil.copytree(pipelines("stable_diffusion"), places / "base")
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    given = {"pretrained_model_name_or_path": base, "resolution": 16}
    assert main(words_of(**given)) == 2 and main(["generate", str(base), "a dog", "--output_dir", "a/b/c"]) == 2
    assert "damaged" in capsys.readouterr().err
    assert not (places / "projects").exists() and not (places / "a").exists()
