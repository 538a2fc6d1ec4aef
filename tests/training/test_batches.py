"""What a row of an update shows: crops, caches, captions, several subjects, weights."""

import json

import pytest
import torch
from PIL import Image

from dreambooth.families import ModelSource, family_of
from dreambooth.run.material import gather, make_batches
from dreambooth.run.train import train
from dreambooth.setup.given import train_config
from dreambooth.training.batches import Batches, encoded_at_once
from dreambooth.training.crops import Cropping, Cutter, as_pixels
from dreambooth.training.ranks import Ranks
from tests import tiny
from tests.training.runs import SETTINGS, config, same_files, weights


def batches(pipelines, settings) -> Batches:
    """The batches of a configuration, without its class images."""
    given = {**SETTINGS, "with_prior_preservation": False, "pretrained_model_name_or_path": str(pipelines("stable_diffusion")), **settings}
    wanted = train_config(**given)
    source = ModelSource.parse({"pretrained_model_name_or_path": str(pipelines("stable_diffusion"))})
    family = family_of(source).load(source)
    material = gather(wanted, wanted.photos.identifier)
    return list(make_batches(wanted, material, family, Ranks(0, 1, torch.device("cpu")), 1))[-1]


def test_a_wide_photo_has_different_random_crops_and_one_in_the_middle(tmp_path):
    random = Cutter(Cropping(), 16).corners((40, 16), "a", (16, 16))
    assert len(random) == 4 and all(top == 0 and 0 <= left <= 24 for top, left in random)
    assert Cutter(Cropping(center_crop=True), 16).corners((40, 16), "a", (16, 16)) == [(0, 12)]
    assert Cutter(Cropping(), 16).corners((16, 16), "a", (16, 16)) == [(0, 0)]


def test_a_flip_is_a_cut_of_its_own_and_knows_its_corner():
    image = Image.new("RGB", (40, 16))
    image.paste((255, 255, 255), (0, 0, 20, 16))
    plain, mirrored = Cutter(Cropping(center_crop=True, random_flip=True), 16).crops(image, "a")
    assert torch.equal(plain.pixels.flip(-1), mirrored.pixels)
    assert plain.corner == (0, 12) and mirrored.corner == (0, 12) and plain.original == (16, 40)


def test_the_cache_changes_nothing_but_the_time(pipelines, tmp_path):
    """The VAE sees other batch sizes with and without the cache, so equality is to rounding."""
    folder = tiny.photos(tmp_path / "wide", size=(40, 24))
    settings = {"instance_data_dir": str(folder), "center_crop": False, "random_flip": True}
    cached, fresh = batches(pipelines, settings), batches(pipelines, {**settings, "cache_latents": False})
    for update in range(5):
        left, right = cached.make(update, 0, 2), fresh.make(update, 0, 2)
        assert torch.equal(left.eps, right.eps) and torch.equal(left.photo, right.photo)
        assert torch.allclose(left.x, right.x, atol=1e-5)


def test_rows_do_not_depend_on_how_an_update_is_cut(pipelines, photos):
    made = batches(pipelines, {"instance_data_dir": str(photos), "train_batch_size": 4})
    whole = made.make(3, 0, 4)
    parts = [made.make(3, 0, 1), made.make(3, 1, 4)]
    for name in ("x", "eps", "t", "weight", "photo"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


def test_every_photo_is_shown_once_an_epoch(pipelines, photos):
    made = batches(pipelines, {"instance_data_dir": str(photos), "train_batch_size": 2})
    shown = torch.cat([made.make(update, 0, 2).photo for update in range(4)])
    assert sorted(shown[:4].tolist()) == sorted(shown[4:].tolist()) == [0, 1, 2, 3]


def test_a_caption_beside_a_photo_says_what_it_shows(pipelines, photos):
    (photos / "0.txt").write_text("a [V] dog on the beach")
    wanted = config(pipelines("stable_diffusion"), root=photos.parent, instance_data_dir=str(photos))
    prompts = [photo.prompt for photo in gather(wanted, "sks").photos]
    assert prompts == ["a sks dog on the beach", "a sks dog", "a sks dog", "a sks dog"]
    off = config(pipelines("stable_diffusion"), root=photos.parent, instance_data_dir=str(photos), use_captions=False)
    assert {photo.prompt for photo in gather(off, "sks").photos} == {"a sks dog"}


def test_a_list_of_concepts_trains_several_subjects_with_their_own_priors(pipelines, tmp_path):
    one, two = tiny.photos(tmp_path / "one", 3), tiny.photos(tmp_path / "two", 2)
    entries = [
        {"instance_prompt": "a sks dog", "class_prompt": "a dog", "instance_data_dir": str(one), "class_data_dir": str(tmp_path / "c1"),
         "num_class_images": 2},
        {"instance_prompt": "a sks cat", "class_prompt": "a cat", "instance_data_dir": str(two), "class_data_dir": str(tmp_path / "c2")},
    ]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(entries))
    names = {"instance_prompt": None, "instance_data_dir": None, "class_prompt": None}
    settings = {**names, "concepts_list": str(tmp_path / "list.json"), "max_train_steps": 1, "output_dir": tmp_path / "run"}
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, **settings)
    wanted = wanted.updated({("photos", "instance_data_dir"): None, ("photos", "instance_prompt"): None})
    for _ in train(wanted):
        pass
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["instance_prompts"] == ["a sks cat", "a sks dog"] and record["class_prompts"] == ["a cat", "a dog"]
    assert len(record["photos"]) == 5
    assert len(list((tmp_path / "c1").glob("*.png"))) == 2 and len(list((tmp_path / "c2").glob("*.png"))) == 3


def test_a_style_is_learned_from_paintings(pipelines, photos, tmp_path):
    settings = {"concept": "style", "instance_prompt": None, "class_prompt": None, "max_train_steps": 1, "output_dir": tmp_path / "run"}
    for _ in train(config(pipelines("stable_diffusion"), root=tmp_path, **settings)):
        pass
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["instance_prompts"] == ["a painting in the style of sks"] and record["class_prompts"] == ["a painting"]


@pytest.mark.parametrize("pieces", [2, 3])
def test_pieces_of_an_update_learn_what_the_whole_does(pieces, pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 1, "optimizer": "adamw", "adam_epsilon": 1.0}
    for size, cut in ((6, 1), (6 // pieces, pieces)):
        settings = {"train_batch_size": size, "gradient_accumulation_steps": cut, "output_dir": tmp_path / f"{cut}"}
        for _ in train(config(**base, **settings)):
            pass
    from safetensors.torch import load_file

    one, many = (weights(tmp_path / name) for name in ("1", str(pieces)))
    for file in one:
        left, right = load_file(one[file]), load_file(many[file])
        assert all(torch.allclose(left[key], right[key], atol=1e-7) for key in left), file


def test_a_run_from_its_own_config_file_is_the_same_run(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 2}
    for _ in train(config(**base, output_dir=tmp_path / "one")):
        pass
    for _ in train(train_config(config=tmp_path / "one" / "config.yaml", output_dir=tmp_path / "two")):
        pass
    same_files(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_pictures_cut_as_they_are_read_are_encoded_as_all_at_once(pipelines, tmp_path):
    """In the same fours, so that not a bit of what is trained depends on when a photo was read; no pixel is kept beside its moments."""
    folder = tiny.photos(tmp_path / "wide", count=5, size=(41, 24))
    settings = {"instance_data_dir": str(folder), "center_crop": False, "random_flip": True}
    cached, fresh = batches(pipelines, settings), batches(pipelines, {**settings, "cache_latents": False})
    crops = fresh.photos.crops
    encoded = [fresh.family.encode(as_pixels(crops[start : start + 4], torch.device("cpu"))) for start in range(0, len(crops), 4)]
    assert len(crops) == 40 and torch.equal(cached.photos.moments, torch.cat(encoded))
    assert not any(cut.pixels is not None for cut in cached.photos.crops)
    assert [(cut.original, cut.corner) for cut in cached.photos.crops] == [(cut.original, cut.corner) for cut in crops]


def test_encoding_goes_on_in_halves_where_memory_runs_out(pipelines, photos, monkeypatch):
    settings, seen = {"instance_data_dir": str(photos)}, []
    whole = batches(pipelines, settings).photos.moments
    kind = family_of(ModelSource.parse({"pretrained_model_name_or_path": str(pipelines("stable_diffusion"))}))
    own = kind.encode

    def small(self, pixels):
        seen.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return own(self, pixels)

    monkeypatch.setattr(kind, "encode", small)
    assert torch.allclose(batches(pipelines, settings).photos.moments, whole, atol=1e-5)
    assert seen == [4, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize(("side", "count"), [(64, 4), (256, 4), (512, 1), (1024, 1)])
def test_large_pictures_are_encoded_one_by_one_whatever_is_free(side, count):
    assert encoded_at_once((side, side)) == count
