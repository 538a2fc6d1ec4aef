"""A base model is whole, or refused with the name of the file that it lacks: nothing is loaded that draws one picture for all prompts."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from dreambooth.core.errors import SettingError
from dreambooth.identifier.parts import readers
from tests import tiny

VOCABULARY = {"vocab.json": "merges.txt", "merges.txt": "vocab.json"}


@pytest.fixture
def model(pipelines, tmp_path):
    """A function that copies a family's folder."""
    return lambda name="stable_diffusion": shutil.copytree(pipelines(name), tmp_path / name)


def refused(folder, *words: str, **source) -> None:
    with pytest.raises(SettingError) as output:
        tiny.load(folder, **source)
    for word in words:
        assert word in str(output.value), output.value


@pytest.mark.parametrize(("family", "part"), [
    ("stable_diffusion", "tokenizer"), ("sdxl", "tokenizer"), ("sdxl", "tokenizer_2"), ("flux", "tokenizer"), ("flux", "tokenizer_2"),
])  # fmt: skip
def test_a_tokenizer_without_its_vocabulary_is_refused_by_the_files_name(family, part, model):
    folder = model(family)
    (folder / part / "tokenizer.json").unlink()
    refused(folder, str(folder / part), "tokenizer.json")


def split_vocabulary(folder) -> None:
    """The older layout: vocab.json and merges.txt."""
    output = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(output["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in output["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer.json").unlink()


def test_the_older_files_of_a_vocabulary_are_read_and_each_is_needed(model):
    folder = model()
    expected = tiny.load(folder).tokenize(["a sks dog"])["input_ids"]
    split_vocabulary(folder / "tokenizer")
    assert tiny.load(folder).tokenize(["a sks dog"])["input_ids"].equal(expected)
    for name in ("vocab.json", "merges.txt"):
        kept = (folder / "tokenizer" / name).read_bytes()
        (folder / "tokenizer" / name).unlink()
        refused(folder, name)
        (folder / "tokenizer" / name).write_bytes(kept)


@pytest.mark.parametrize("content", ["{}", '{"<|startoftext|>": 0, "<|endoftext|>": 1}', "[]", "{", "[" * 100_000])
def test_a_vocabulary_that_holds_nothing_is_refused(content, model):
    folder = model()
    split_vocabulary(folder / "tokenizer")
    (folder / "tokenizer" / "vocab.json").write_text(content)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    refused(folder, str(folder))


def test_another_tokenizer_without_a_vocabulary_is_refused_under_its_own_flag(model, tmp_path):
    folder = model()
    other = shutil.copytree(folder / "tokenizer", tmp_path / "other")
    tiny.load(folder, tokenizer_name=str(other))
    (other / "tokenizer.json").unlink()
    refused(folder, "--tokenizer_name", "tokenizer.json", tokenizer_name=str(other))


def test_a_tokenizer_of_another_model_is_refused(model, tmp_path):
    folder = model()
    tokenizer = tiny.clip_tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(50)])
    tokenizer.save_pretrained(tmp_path / "other")
    refused(folder, "--tokenizer_name", "another model's", tokenizer_name=str(tmp_path / "other"))


def test_a_folder_to_find_identifiers_in_needs_its_vocabulary(model):
    folder = model()
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(SettingError, match="tokenizer"):
        readers(folder, encoders=False)


@pytest.mark.parametrize(("family", "part", "file"), [
    ("stable_diffusion", "scheduler", "scheduler_config.json"), ("stable_diffusion", "vae", "config.json"),
    ("flux", "transformer", "config.json"), ("flux", "text_encoder_2", "config.json"),
    ("sdxl", "text_encoder_2", "model.safetensors"), ("flux", "transformer", "diffusion_pytorch_model.safetensors"),
])  # fmt: skip
def test_every_part_is_refused_by_the_name_of_the_file_that_it_lacks(family, part, file, model):
    folder = model(family)
    (folder / part / file).unlink()
    refused(folder, str(folder / part), file)


def sharded(folder, stem: str):
    """The weights of a part in three files and their index."""
    tensors = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    names = [f"{stem}-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    places = {name: names[place % 3] for place, name in enumerate(tensors)}
    for name in names:
        save_file({key: tensors[key] for key, place in places.items() if place == name}, folder / name, metadata={"format": "pt"})
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder / f"{stem}.safetensors.index.json", names


@pytest.mark.parametrize(("part", "stem"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_weights_in_shards_are_read_and_every_shard_is_needed(part, stem, model):
    folder = model()
    expected = tiny.load(folder).parts[part].state_dict()
    index, names = sharded(folder / part, stem)
    found = tiny.load(folder).parts[part].state_dict()
    assert all(found[name].equal(value) for name, value in expected.items())
    (folder / part / names[1]).rename(folder / "kept")
    refused(folder, names[1])
    (folder / "kept").rename(folder / part / names[1])
    whole = (folder / part / names[2]).read_bytes()
    (folder / part / names[2]).write_bytes(whole[: len(whole) // 2])
    refused(folder, names[2], "half written")
    (folder / part / names[2]).write_bytes(whole)
    output = json.loads(index.read_text())
    for wrong in (
        {"weight_map": []},
        [],
        {"weight_map": {"a": 3}},
        {"weight_map": {"a": "../../secret.safetensors"}},
        {"weight_map": {"a": "/x"}},
    ):
        index.write_text(json.dumps(wrong))
        refused(folder, str(index))
    index.write_text("[" * 100_000)
    refused(folder, str(index))
    index.unlink()
    refused(folder, f"{stem}.safetensors.index.json")
    index.write_text(json.dumps(output))
    tiny.load(folder)


def test_weights_of_a_variant_are_needed_as_others_are(model):
    folder = model()
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / part / f"{stem}.safetensors").rename(folder / part / f"{stem}.fp16.safetensors")
    tiny.load(folder, variant="fp16")
    whole = (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").read_bytes()
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(whole[:-100])
    refused(folder, "diffusion_pytorch_model.fp16.safetensors", variant="fp16")
    refused(folder, "--variant fp16")


def test_weights_may_be_links_and_what_small_files_say_may_not_come_from_elsewhere(model, tmp_path):
    folder = model()
    for name in ("unet/diffusion_pytorch_model.safetensors", "unet/config.json"):
        (folder / name).rename(tmp_path / folder.joinpath(name).name)
        (folder / name).symlink_to(tmp_path / folder.joinpath(name).name)
        if name.endswith(".safetensors"):
            tiny.load(folder)
    refused(folder, str(folder / "unet" / "config.json"), "link")


def test_a_pipeline_may_be_put_together_by_links_to_the_parts_of_another(pipelines, tmp_path):
    for entry in pipelines("stable_diffusion").iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    tiny.load(tmp_path)


@pytest.mark.parametrize("name", ["model_index.json", "dreambooth.yaml", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"])
def test_a_link_to_a_private_file_is_refused_and_its_words_are_not_reported(name, model, tmp_path):
    folder = model()
    (tmp_path / "secret").write_text('{"password": "hunter2"}')
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(SettingError) as output:
        tiny.load(folder)
    assert "hunter2" not in str(output.value)


def test_the_links_of_the_hubs_cache_are_followed(model, tmp_path):
    folder, blobs = model(), tmp_path / "hub" / "models--owner--name" / "blobs"
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        place = snapshot / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        place.symlink_to(blobs / str(number))
    tiny.load(snapshot)


@pytest.mark.parametrize(
    "kind", [["os", "system"], ["diffusers", "CLIPTokenizer"], ["transformers", "CLIPTokenizer"], ["diffusers.utils", "x"], [3, 4]]
)
@pytest.mark.parametrize("part", ["text_encoder", "vae", "scheduler"])
def test_a_part_is_of_a_kind_that_its_name_says(kind, part, model):
    folder = model()
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: kind}))
    refused(folder, "model_index.json", part)
