"""Class images: made by the frozen model, a seed each, resumed, checked, and shared between runs."""

import json

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.families.sampling import Picture, Sampling
from dreambooth.files.images import read_settings
from dreambooth.files.locks import LOCK
from dreambooth.run.train import train
from dreambooth.training import prior
from dreambooth.training.prior import MANIFEST, ClassImages, shared_folder
from dreambooth.training.records import Message, Progress
from tests.training.runs import config


@pytest.fixture(scope="module")
def family(pipelines):
    source = ModelSource.parse({"pretrained_model_name_or_path": str(pipelines("stable_diffusion"))})
    return family_of(source).load(source)


def images(folder, count=5, **other):
    sampling = Sampling(num_inference_steps=2, scheduler="ddim", eta=1.0, height=16, width=16)
    return ClassImages(folder, other.get("prompt", "a dog"), count, sampling, "model")


def draw(family, wanted, take=None):
    output = []
    for record in wanted.draw(family, batch_size=2, precision="no"):
        output.append(record)
        if take is not None and isinstance(record, Progress) and record.done >= take:
            break
    return output


def pixels(wanted):
    return [np.asarray(Image.open(path)) for path in wanted.present()]


def test_every_picture_has_its_own_seed_and_says_how_it_was_made(family, tmp_path):
    draw(family, images(tmp_path))
    output = [read_settings(path) for path in images(tmp_path).present()]
    assert [one["seed"] for one in output] == [0, 1, 2, 3, 4]
    assert all(one["prompt"] == "a dog" and one["eta"] == 1.0 for one in output)


def test_an_interrupted_drawing_goes_on_and_ends_with_the_same_pictures(family, tmp_path):
    draw(family, images(tmp_path / "whole"))
    draw(family, images(tmp_path / "cut"), take=2)
    assert len(images(tmp_path / "cut").present()) == 2
    draw(family, images(tmp_path / "cut"))
    pairs = list(zip(pixels(images(tmp_path / "whole")), pixels(images(tmp_path / "cut")), strict=True))
    assert len(pairs) == 5
    assert max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs) <= 1  # batches of another size round otherwise


def test_a_larger_set_contains_the_smaller_one(family, tmp_path):
    draw(family, images(tmp_path, 2))
    before = pixels(images(tmp_path, 2))
    draw(family, images(tmp_path, 4))
    assert all(np.array_equal(a, b) for a, b in zip(before, pixels(images(tmp_path, 4)), strict=False))


def test_the_ancestral_sampler_puts_noise_back(family, tmp_path):
    ancestral, plain = images(tmp_path).sampling, images(tmp_path).sampling.model_copy(update={"eta": 0.0})
    first, second = (np.asarray(next(iter(prior.draw(family, ["a dog"], [0], sampling=s))).image) for s in (ancestral, plain))
    assert not np.array_equal(first, second)


def test_black_broken_and_repeated_pictures_are_drawn_anew(family, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    good = [Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(3)]
    black = Image.new("RGB", (16, 16))
    queue = [(black, True), (good[0], True), (good[0], True), (good[1], False), (good[1], True), (good[2], True)]

    def fake(_, prompts, seeds, **__):
        for prompt, seed in zip(prompts, seeds, strict=True):
            image, finite = queue[seed]
            yield Picture(image, prompt, seed, finite)

    monkeypatch.setattr(prior, "draw", fake)
    output = draw(family, images(tmp_path, 3))
    remarks = [record.text for record in output if isinstance(record, Message)]
    assert len(remarks) == 3
    assert "black" in remarks[0] and "the same as another" in remarks[1] and "not finite" in remarks[2]
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert [entry["seed"] for entry in manifest["images"].values()] == [1, 4, 5]
    assert set(manifest["rejected"]) == {"0", "2", "3"}


def test_a_model_that_only_draws_black_is_given_up_on_with_advice(family, tmp_path, monkeypatch):
    def black(_, prompts, seeds, **__):
        for prompt, seed in zip(prompts, seeds, strict=True):
            yield Picture(Image.new("RGB", (16, 16)), prompt, seed, True)

    monkeypatch.setattr(prior, "draw", black)
    with pytest.raises(RunError, match="--prior_generation_precision fp32"):
        draw(family, images(tmp_path))


def test_a_folder_with_another_prompts_pictures_is_refused(family, tmp_path):
    draw(family, images(tmp_path, 1))
    with pytest.raises(SettingError, match="another prompt"):
        images(tmp_path, 1, prompt="a cat").present()


def test_pictures_that_the_user_has_put_there_are_used_as_they_are(family, tmp_path):
    for number in range(2):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / f"mine{number}.jpg")
    assert images(tmp_path, 2).missing() == 0
    draw(family, images(tmp_path, 3))
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_a_folder_that_holds_no_picture_is_filled_as_an_empty_one(family, tmp_path):
    """Hidden files, folders and texts were taken for a folder of photos that nobody can read."""
    (tmp_path / "more").mkdir()
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "README.md", "names.csv"):
        (tmp_path / name).write_text("no picture")
    assert images(tmp_path, 2).missing() == 2
    draw(family, images(tmp_path, 2))
    assert [path.name for path in images(tmp_path, 2).present()] == ["00000.png", "00001.png"]
    assert (tmp_path / "notes.txt").read_text() == "no picture"


def test_a_damaged_picture_of_the_users_is_named(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(SettingError, match=r"mine\.png"):
        images(tmp_path, 2).refuse_unusable()


def test_two_runs_share_their_class_images_and_another_guidance_does_not(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 1}
    phases = []
    for name, extra in (("one", {}), ("two", {}), ("three", {"prior_guidance_scale": 2.0})):
        records = list(train(config(**base, **extra, output_dir=tmp_path / name)))
        phases.append(sum(isinstance(record, Progress) and record.phase == "class images" for record in records))
    assert phases[0] == 4 and phases[1] == 0 and phases[2] == 4
    assert shared_folder({"model": "a"}, weights="float32") != shared_folder({"model": "b"}, weights="float32")


def test_of_two_runs_that_want_the_same_class_images_one_draws_and_one_waits(pipelines, tmp_path):
    folder, waited = tmp_path / "class", []
    folder.mkdir()
    lock = FileLock(folder / LOCK)
    lock.acquire()
    wanted = config(
        pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, class_data_dir=str(folder)
    )
    for record in train(wanted):
        if isinstance(record, Progress) and "another run" in record.phase:
            waited.append(record)
            assert not list(folder.glob("*.png"))
            lock.release()
    assert len(waited) == 1 and len(list(folder.glob("*.png"))) == 3


@pytest.mark.parametrize("damage", ["half", "flipped", "gone", "empty", "another format"])
def test_a_damaged_class_image_is_named_and_drawn_anew_with_its_own_seed(damage, family, tmp_path):
    draw(family, images(tmp_path))
    before, path = pixels(images(tmp_path)), tmp_path / "00002.png"
    whole = path.read_bytes()
    middle = whole.index(b"IDAT") + 8
    changed = {"half": whole[: len(whole) // 2], "flipped": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :], "empty": b""}
    if damage == "gone":
        path.unlink()
    elif damage == "another format":
        Image.new("RGB", (16, 16)).save(path, "JPEG")
    else:
        path.write_bytes(changed[damage])
    assert images(tmp_path).missing() == 1
    output = draw(family, images(tmp_path))
    assert any(isinstance(record, Message) and "00002.png" in record.text for record in output)
    assert [path.name for path in images(tmp_path).present()] == [f"{seed:05d}.png" for seed in range(5)]
    assert max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(before, pixels(images(tmp_path)), strict=True)) <= 1


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"images": 3}', "outside", "a seed in words"])
def test_a_damaged_manifest_is_written_anew_from_the_pictures_and_reported(content, family, tmp_path):
    draw(family, images(tmp_path))
    path = tmp_path / MANIFEST
    whole = json.loads(path.read_text())
    Image.new("RGB", (16, 16), "red").save(tmp_path.parent / "outside.png")
    if content == "outside":
        content = json.dumps(whole | {"images": {"../outside.png": {"seed": 0, "look": ""}, **whole["images"]}})
    elif content == "a seed in words":
        content = json.dumps(whole | {"next_seed": "many"})
    path.write_text(content)
    (output,) = images(tmp_path).mend()
    assert MANIFEST in output.text and "5 pictures" in output.text
    assert json.loads(path.read_text()) == whole and not list(images(tmp_path).mend())
    assert images(tmp_path).missing() == 0 and len(images(tmp_path).present()) == 5


def test_pictures_of_another_set_do_not_come_into_a_manifest_that_is_written_anew(family, tmp_path):
    draw(family, images(tmp_path, prompt="a cat"))
    (tmp_path / MANIFEST).write_text("{")
    list(images(tmp_path).mend())
    assert images(tmp_path).missing() == 5


def test_a_link_among_class_images_that_leads_out_of_the_folder_is_drawn_anew(family, tmp_path):
    folder = tmp_path / "set"
    draw(family, images(folder))
    (folder / "00001.png").rename(tmp_path / "elsewhere.png")
    (folder / "00001.png").symlink_to(tmp_path / "elsewhere.png")
    kept = (tmp_path / "elsewhere.png").read_bytes()
    assert images(folder).missing() == 1
    draw(family, images(folder))
    assert not (folder / "00001.png").is_symlink() and (tmp_path / "elsewhere.png").read_bytes() == kept
