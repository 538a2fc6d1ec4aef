"""No folder is two things at once: photos are not class images, nothing is written among photos, no run replaces another's scores."""

import json
import shutil

import pytest
import yaml

from dreambooth.cli import main
from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config


@pytest.fixture
def train_command(pipelines, tmp_path):
    """A training command of the folders photos, class, masks and run in the test's folder; `{root}` stands for that."""
    for name in ("photos", "second", "masks"):
        tiny.photos(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "photos")

    def build(**settings: object) -> list[str]:
        given = {"instance_data_dir": "{root}/photos", "class_data_dir": "{root}/class", "output_dir": "{root}/run", **settings}
        base = [
            "train",
            "--pretrained_model_name_or_path",
            str(pipelines("stable_diffusion")),
            "--class_noun",
            "dog",
            "--max_train_steps",
            "1",
        ]
        for name, value in given.items():
            base += [f"--{name}"] if value is True else [f"--{name}", str(value).format(root=tmp_path)] if value is not None else []
        return base

    return build


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"class_data_dir": "{root}/photos"}, ("--class_data_dir", "--instance_data_dir")),
        ({"class_data_dir": "{root}/link"}, ("--class_data_dir", "--instance_data_dir")),
        ({"class_data_dir": "{root}/run/../photos/."}, ("--class_data_dir", "--instance_data_dir")),
        ({"class_data_dir": "{root}/photos/class"}, ("--class_data_dir", "--instance_data_dir", "nothing is written")),
        ({"instance_data_dir": "{root}/photos", "class_data_dir": "{root}"}, ("--instance_data_dir", "--class_data_dir")),
        ({"output_dir": "{root}/photos"}, ("--output_dir", "--instance_data_dir")),
        ({"output_dir": "{root}/link/run"}, ("--output_dir", "--instance_data_dir")),
        ({"output_dir": "{root}/class"}, ("--output_dir", "--class_data_dir")),
        ({"output_dir": "{root}/class/run"}, ("--output_dir", "--class_data_dir")),
        ({"class_data_dir": "{root}/run/samples"}, ("--class_data_dir", "--output_dir", "samples")),
        ({"masked_loss": True, "mask_dir": "{root}/link"}, ("--mask_dir", "--instance_data_dir")),
        ({"masked_loss": True, "mask_dir": "{root}/masks", "output_dir": "{root}/masks/run"}, ("--output_dir", "--mask_dir")),
        ({"masked_loss": True, "mask_dir": "{root}/masks", "class_data_dir": "{root}/masks"}, ("--mask_dir", "--class_data_dir")),
        ({"logging_dir": "{root}/photos"}, ("--logging_dir", "--instance_data_dir")),
        ({"logging_dir": "../photos/logs"}, ("--logging_dir", "--instance_data_dir")),
        ({"cache_dir": "{root}/photos"}, ("--cache_dir", "--instance_data_dir")),
    ],
)
def test_a_training_of_one_folder_for_two_things(train_command, refused, settings, words):
    refused(*train_command(**settings), words=words)


def test_what_lies_in_the_runs_folder_under_a_name_of_its_own_is_trained_on(train_command, tmp_path, capsys):
    photos = tiny.photos(tmp_path / "run" / "photos")
    few = {"num_class_images": 2, "prior_inference_steps": 1, "skip_final_inference": True, "resolution": 16, "identifier": "sks"}
    given = {"instance_data_dir": photos, "class_data_dir": "{root}/run/class_images", **few}
    assert main(train_command(**given)) == 0
    assert sorted(path.name for path in photos.iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    assert len(list((tmp_path / "run" / "class_images").glob("*.png"))) == 2


def test_a_base_model_is_not_trained_into_its_own_folder(train_command, refused, pipelines, tmp_path):
    shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base")
    for folder in ("{root}/base", "{root}/base/run"):
        given = train_command(pretrained_model_name_or_path="{root}/base", output_dir=folder, overwrite_output_dir=True)
        refused(*given, words=("--output_dir", "--pretrained_model_name_or_path"))
    given = train_command(pretrained_model_name_or_path="{root}/base", class_data_dir="{root}/base/dogs")
    refused(*given, words=("--class_data_dir", "--pretrained_model_name_or_path"))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"instance_data_dir": "{root}/link"}, ("entry 2", "entry 1")),
        ({"class_data_dir": "{root}/second"}, {}, ("entry 1", "entry 2")),
        ({"class_data_dir": "{root}/dogs"}, {"class_data_dir": "{root}/x/../dogs", "class_prompt": "a cat"}, ("a dog", "a cat")),
        ({"class_data_dir": "{root}/dogs"}, {"class_data_dir": "{root}/dogs/cats"}, ("entry 2", "entry 1")),
    ],
)
def test_two_concepts_in_one_folder(train_command, refused, tmp_path, first, second, words):
    entries = [
        {"instance_prompt": "a sks dog", "class_prompt": "a dog", "instance_data_dir": "{root}/photos", **first},
        {"instance_prompt": "a sks cat", "class_prompt": "a dog", "instance_data_dir": "{root}/second", **second},
    ]
    filled = [{name: value.format(root=tmp_path) for name, value in entry.items()} for entry in entries]
    (tmp_path / "list.json").write_text(json.dumps(filled))
    given = {"concepts_list": "{root}/list.json", "instance_data_dir": None, "class_data_dir": None, "with_prior_preservation": True}
    refused(*train_command(**given), words=words)


def test_two_concepts_of_one_class_share_its_pictures(train_command, tmp_path):
    entries = [
        {"instance_prompt": f"a sks {noun}", "class_prompt": "a dog", "instance_data_dir": str(tmp_path / folder), "class_data_dir": place}
        | {"num_class_images": count}
        for noun, folder, place, count in (
            ("dog", "photos", str(tmp_path / "dogs"), 3),
            ("puppy", "second", f"{tmp_path}/class/../dogs", 2),
        )
    ]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    (tmp_path / "class").mkdir()
    few = {"with_prior_preservation": True, "prior_inference_steps": 1, "skip_final_inference": True, "resolution": 16}
    given = {"concepts_list": "{root}/list.json", "instance_data_dir": None, "class_data_dir": None, **few}
    assert main(train_command(**given)) == 0
    assert len(list((tmp_path / "dogs").glob("*.png"))) == 3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [images["count"] for images in record["class_images"]] == [3]


@pytest.mark.parametrize(("name", "content"), [("class_images.json", "{}"), ("run.json", "{}")])
def test_a_folder_that_says_itself_what_it_holds_is_not_taken_for_photos(train_command, refused, tmp_path, name, content):
    (tmp_path / "photos" / name).write_text(content)
    refused(*train_command(), words=("--instance_data_dir", "class images" if "class" in name else "folder of a run"))


def test_a_run_into_class_images_and_class_images_into_a_run(train_command, refused, tmp_path):
    for folder, name in (("drawn", "class_images.json"), ("earlier", "run.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")
    refused(*train_command(output_dir="{root}/drawn"), words=("--output_dir", "class images"))
    refused(*train_command(class_data_dir="{root}/earlier"), words=("--class_data_dir", "folder of a run"))


@pytest.fixture(scope="module")
def run(pipelines, tmp_path_factory):
    """A finished run with a checkpoint and folders of its own for photos and class images; beside it the folder of another."""
    root = tmp_path_factory.mktemp("runs")
    settings = {"class_data_dir": root / "class", "class_noun": "dog", "max_train_steps": 2, "checkpointing_steps": 1, "method": "lora"}
    for _ in train(config(pipelines("stable_diffusion"), root=root, output_dir=root / "run", **settings)):
        pass
    (root / "another").mkdir()
    (root / "another" / "run.json").write_text("{}")
    return root / "run"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("photos-24", ("photos",)),
        ("photos-24/drawn", ("--instance_data_dir", "nothing is written")),
        ("class", ("class images",)),
        ("another", ("another run",)),
        ("run/checkpoint-1", ("checkpoint-1",)),
        ("run/samples/final", ("samples/final",)),
        ("run/samples/evaluation/mine", ("samples/evaluation",)),
    ],
)
@pytest.mark.parametrize("verb", ["generate", "evaluate"])
def test_pictures_and_scores_do_not_go_where_others_lie(run, refused, verb, place, words):
    asked = [verb, run, *(["a [V] dog"] if verb == "generate" else [])]
    refused(*asked, "--output_dir", run.parent / place, words=("--output_dir", *words), root=run.parent)


def test_pictures_do_not_replace_a_runs_own_sheet_nor_a_checkpoints_scores_those_of_the_run(run, refused):
    same = run.parent / "photos-24" / ".." / "run"
    refused("generate", run, "a [V] dog", "--output_dir", same, words=("--output_dir", "own folder"), root=run.parent)
    refused("evaluate", run / "checkpoint-1", "--output_dir", same, words=("--output_dir", "checkpoint-1"), root=run.parent)


def test_a_run_that_was_mixed_before_this_was_refused_is_still_drawn_from(run, tmp_path):
    mixed = shutil.copytree(run, tmp_path / "mixed")
    tree = yaml.safe_load((mixed / "config.yaml").read_text())
    tree["photos"]["instance_data_dir"] = tree["prior"]["class_data_dir"] = str(mixed)
    (mixed / "config.yaml").write_text(yaml.safe_dump(tree))
    (mixed / "class_images.json").write_text("{}")
    few = ["--num_images", "1", "--num_inference_steps", "1"]
    assert main(["generate", str(mixed), "a [V] dog", *few, "--output_dir", str(tmp_path / "drawn")]) == 0
    assert main(["generate", str(mixed), "a [V] dog", *few, "--output_dir", str(mixed)]) == 2


def test_scores_do_not_go_among_the_photos_that_were_named_nor_into_a_model(pipelines, refused, tmp_path):
    photos, base = tiny.photos(tmp_path / "photos"), shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base")
    given = ("evaluate", base, "--class_noun", "dog", "--identifier", "sks", "--instance_data_dir", photos, "--output_dir")
    refused(*given, photos, words=("--output_dir", "--instance_data_dir"))
    refused(*given, base / "scores", words=("--output_dir", "run", "nothing is written"))


@pytest.mark.parametrize(
    ("place", "words"), [("data/dog7", "dog7"), ("data/dog7/bench", "dog7"), ("data", "--dataset_dir"), ("base/x", "model")]
)
def test_a_bench_does_not_write_into_its_dataset_or_its_model(pipelines, refused, tmp_path, place, words):
    tiny.photos(tmp_path / "data" / "dog7")
    (tmp_path / "data" / "subjects.csv").write_text("subject_name,class\ndog7,dog\n")
    base = shutil.copytree(pipelines("stable_diffusion"), tmp_path / "base")
    given = ["bench", "table3", "--dataset_dir", tmp_path / "data", "--pretrained_model_name_or_path", base]
    refused(*given, "--output_dir", tmp_path / place, words=("--output_dir", words))


def test_two_subjects_of_a_bench_in_one_folder(pipelines, refused, tmp_path):
    tiny.photos(tmp_path / "data" / "dog7")
    (tmp_path / "data" / "dog8").symlink_to("dog7")
    (tmp_path / "data" / "subjects.csv").write_text("subject_name,class\ndog7,dog\ndog8,dog\n")
    given = ["--pretrained_model_name_or_path", pipelines("stable_diffusion"), "--output_dir", tmp_path / "bench"]
    refused("bench", "table3", "--dataset_dir", tmp_path / "data", *given, words=("dog7", "dog8"))


@pytest.mark.parametrize(
    ("out", "masks", "words"),
    [
        ("photos", None, "originals"),
        ("link/copies", None, "originals"),
        ("masks", "masks", "--masks"),
        ("masks/copies", "masks", "--masks"),
        ("copies", "photos", "--masks"),
        ("copies", "copies/masks", "--masks"),
    ],
)
def test_copies_of_photos_do_not_go_among_photos_or_masks(refused, tmp_path, out, masks, words):
    for name in ("photos", "masks", "copies/masks"):
        tiny.photos(tmp_path / name)
    (tmp_path / "link").symlink_to("photos")
    given = ["--masks", tmp_path / masks] if masks else []
    refused("photos", "prepare", tmp_path / "photos", tmp_path / out, *given, words=(words,))
