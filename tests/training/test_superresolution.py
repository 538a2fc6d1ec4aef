"""Training a stage that sees a smaller picture: its pairs, their noise, and that no other family notices."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, mse_loss

from dreambooth.core.draws import generator
from dreambooth.core.errors import Interrupted, SettingError
from dreambooth.photos.load import load
from dreambooth.run.train import train
from dreambooth.setup.record import read_record
from dreambooth.training.batches import Batches, Draw, ImageSet, TrainingData, fill_image_set, text_table
from dreambooth.training.crops import Cropping, Cutter, Picture
from dreambooth.training.objective import Objective
from dreambooth.training.records import Message, Step
from dreambooth.training.step import forward_backward
from tests import tiny
from tests.training.runs import config, same_files, weights

LATER = ["deepfloyd_superresolution", "upscaler"]
ALONE = {"with_prior_preservation": None, "class_prompt": None, "num_class_images": None, "resolution": 32, "photo_size": (40, 40)}


def batches(family, photos: Path, *, cache: bool, objective: Objective | None = None, resolution: int = 32) -> Batches:
    shelf, cutter = ImageSet(), Cutter(Cropping(center_crop=True), resolution, 4)
    paths = sorted(photos.iterdir())
    shown = (Picture(path.name, load(path), [0]) for path in paths)
    list(fill_image_set(shelf, shown, cutter, family if cache else None, count=len(paths), what="photos"))
    data = TrainingData(shelf, ImageSet(), text_table(family, ["a sks dog"]))
    return Batches(family, data, Draw(4, 0, 4), objective or Objective())


@pytest.fixture(params=LATER)
def later(request, pipelines):
    family = tiny.load(pipelines(request.param))
    family.noise_levels = family.levels((1e-3, 0.2))
    return family


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_rows_small_picture_is_a_function_of_seed_update_and_row_with_and_without_the_cache(later, tmp_path):
    photos = tiny.photos(tmp_path / "photos", size=(40, 40))
    cached, fresh = (batches(later, photos, cache=cache) for cache in (True, False))
    whole = cached.make(3, 0, 4)
    for start, stop in ((0, 1), (1, 4)):
        assert same(cached.make(3, start, stop).condition, whole.rows(start, stop).condition)
    assert same(fresh.make(3, 0, 4).condition, whole.condition)
    assert not torch.equal(cached.make(4, 0, 4).condition["noise_level"], whole.condition["noise_level"])
    assert len(set(whole.condition["noise_level"].tolist())) > 1


def test_a_row_is_the_photo_beside_its_own_area_average_noised_by_its_own_draws(later, tmp_path):
    photos = tiny.photos(tmp_path / "photos", size=(40, 40))
    made = batches(later, photos, cache=True)
    batch, low, high = made.make(2, 0, 4), *later.noise_levels
    for row in range(4):
        pixels = made_pixels(photos, made.names[int(batch.photo[row])])
        small = avg_pool2d(pixels, 4)
        image = small if later.vae_classes else interpolate(small, (32, 32), mode="bilinear", align_corners=True)
        rng = generator(4, "conditioning", 2, row)
        noise, level = torch.randn(image.shape[1:], generator=rng), torch.randint(low, high + 1, (), generator=rng)
        scheduler = getattr(later.pipe, later.noising_scheduler)
        expected = scheduler.add_noise(image, noise[None], level[None])[0]
        torch.testing.assert_close(batch.condition["conditioning_image"][row], expected, rtol=0, atol=1e-5)
        assert batch.condition["noise_level"][row] == level


def made_pixels(photos: Path, name: str) -> torch.Tensor:
    from PIL import Image

    from dreambooth.families.cascade import pixels_of

    return pixels_of(Image.open(photos / name).resize((32, 32), Image.Resampling.LANCZOS))[None]


def test_the_loss_equals_one_that_is_written_in_a_few_lines(pipelines, tmp_path):
    family = tiny.load(pipelines("deepfloyd_superresolution"))
    family.noise_levels = (13, 13)
    batch = batches(family, tiny.photos(tmp_path / "photos", size=(40, 40)), cache=True).make(0, 0, 4)
    family.denoiser.requires_grad_(True)
    errors = forward_backward(family, batch, process=family.process, objective=Objective())
    noisy = family.pipe.scheduler.add_noise(batch.x, batch.eps, batch.t)
    both = torch.cat([noisy, batch.condition["conditioning_image"]], dim=1)
    with torch.no_grad():
        answer = family.pipe.unet(both, batch.t, batch.condition["text"], class_labels=torch.full((4,), 13)).sample
    for row in range(4):
        torch.testing.assert_close(errors[row], mse_loss(answer[row, :3], batch.eps[row]), rtol=1e-4, atol=1e-6)


def test_diffusers_objective_is_the_noisy_picture_twice_and_its_time(pipelines, tmp_path):
    """--class_labels_conditioning timesteps, as diffusers' script has it."""
    family = tiny.load(pipelines("deepfloyd_superresolution"))
    batch = batches(family, tiny.photos(tmp_path / "photos", size=(40, 40)), cache=True).make(0, 0, 4)
    assert batch.condition.keys() == {"text"}
    noisy = family.pipe.scheduler.add_noise(batch.x, batch.eps, batch.t)
    with torch.no_grad():
        theirs = family.pipe.unet(torch.cat([noisy, noisy], 1), batch.t, batch.condition["text"], class_labels=batch.t).sample[:, :3]
        ours = family.predict(noisy, batch.t.float(), batch.condition)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["stable_diffusion", "sdxl", "flux"])
def test_families_without_a_small_picture_draw_the_numbers_that_they_drew_before(name, pipelines, tmp_path):
    """Sums of an update's noise and timesteps, noted before there were stages."""
    family = tiny.load(pipelines(name))
    objective = Objective(offset_noise=0.1)
    batch = batches(family, tiny.photos(tmp_path / "photos"), cache=True, objective=objective, resolution=16).make(7, 0, 4)
    assert float(batch.eps.double().sum()) == pytest.approx(38.683782283216715, rel=1e-9)
    assert batch.t.sum() == 1548


def run(stop_after: int | None = None, **settings) -> list:
    records, seen = [], []
    for record in train(config(**settings), stop=lambda: stop_after is not None and len(seen) >= stop_after):
        records.append(record)
        if isinstance(record, Step):
            seen.append(record.step)
    return records


VARIANTS = {
    "full": {},
    "lora": {"method": "lora", "gradient_checkpointing": True},
    "range": {"noise_augmentation": (1e-3, 0.2)},
    "without_cache": {"cache_latents": False},
    "bf16": {"method": "lora", "mixed_precision": "bf16"},
    "script": {"class_labels_conditioning": "timesteps"},
    "pieces": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interrupted_stage_ends_with_the_same_bytes(name, pipelines, tmp_path):
    base = {"model": pipelines("deepfloyd_superresolution"), "root": tmp_path, "max_train_steps": 4, **ALONE, **VARIANTS[name]}
    run(**base, output_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(**base, output_dir=tmp_path / "cut", stop_after=2)
    run(**base, output_dir=tmp_path / "cut", resume_from_checkpoint="latest")
    same_files(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


@pytest.mark.parametrize("model", ["deepfloyd", *LATER])
def test_a_stage_is_trained_and_its_record_says_at_which_levels(model, pipelines, tmp_path):
    settings = {**ALONE, "skip_final_inference": False, "validation_inference_steps": 2, "num_validation_images": 2}
    records = run(model=pipelines(model), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=2, **settings)
    record = read_record(tmp_path / "run")
    plan = next(record.text for record in records if isinstance(record, Message) and "training" in record.text and "output" in record.text)
    if model == "deepfloyd":
        assert "noise_levels" not in record and "stage" not in record and "small picture" not in plan
        return
    assert record["noise_levels"] == [0, 0] and record["stage"] > 1
    assert "small picture" in plan and "prior" in plan and "off" in plan
    drawn = sorted((tmp_path / "run" / "samples" / "final").glob("*.png"))
    assert len(drawn) == 2
    assert json.loads(notes(drawn[0]))["stages"] == [{"from": "0.png"}]


def notes(path: Path) -> str:
    from PIL import Image

    return Image.open(path).text["dreambooth"]


def test_two_variances_are_a_range_of_levels(pipelines, tmp_path):
    settings = {**ALONE, "noise_augmentation": (1e-3, 4e-5)}
    run(model=pipelines("deepfloyd_superresolution"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, **settings)
    assert read_record(tmp_path / "run")["noise_levels"] == [0, 13]


def test_pictures_for_validation_are_the_small_ones_that_are_named(pipelines, tmp_path):
    small = tiny.photos(tmp_path / "small", count=3, size=(8, 8))
    asked = {"validation_prompt": "a sks dog", "validation_steps": 1, "validation_inference_steps": 2}
    asked |= {"validation_images": tuple(str(path) for path in sorted(small.iterdir())[1:])}
    run(model=pipelines("deepfloyd_superresolution"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, **ALONE, **asked)
    drawn = sorted((tmp_path / "run" / "samples" / "step-000001").glob("*.png"))
    assert [json.loads(notes(path))["stages"][0]["from"] for path in drawn] == ["1.png", "2.png"]


def test_class_images_come_through_the_untuned_stages(pipelines, tmp_path):
    settings = {**ALONE, "with_prior_preservation": True, "class_prompt": "a dog", "num_class_images": 2}
    settings |= {"prior_stages": (str(pipelines("deepfloyd")),)}
    run(model=pipelines("deepfloyd_superresolution"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, **settings)
    (record,) = read_record(tmp_path / "run")["class_images"]
    pictures = sorted(Path(record["folder"]).glob("*.png"))
    assert len(pictures) == 2
    assert [json.loads(notes(path))["noise_level"] for path in pictures] == [250, 250], "the untuned stage's own"
    (before,) = json.loads(notes(pictures[0]))["stages"]
    assert before["model"] == str(pipelines("deepfloyd")) and before["prompt"] == "a dog"


@pytest.mark.parametrize(
    ("model", "settings", "setting"),
    [
        ("stable_diffusion", {"noise_augmentation": (1e-3,)}, "--noise_augmentation"),
        ("deepfloyd", {"noise_augmentation": (1e-3,)}, "--noise_augmentation"),
        ("upscaler", {"noise_augmentation": (0.5,)}, "--noise_augmentation"),
        ("upscaler", {"class_labels_conditioning": "timesteps"}, "--class_labels_conditioning"),
        ("deepfloyd_superresolution", {"class_labels_conditioning": "timesteps", "noise_augmentation": 0.1}, "--class_labels_conditioning"),
        ("deepfloyd", {"validation_images": ("x.png",)}, "--validation_images"),
        ("deepfloyd", {"identifier": "SKS", "instance_prompt": "a [V] dog"}, "--identifier"),
        ("deepfloyd_superresolution", {"with_prior_preservation": True, "class_prompt": "a dog"}, "--with_prior_preservation"),
        ("deepfloyd_superresolution", {"evaluate_every": 1, "class_noun": "dog", "class_prompt": None}, "--evaluate_every"),
        ("deepfloyd", {"pretrained_vae_name_or_path": "vae"}, "--pretrained_vae_name_or_path"),
    ],
)  # fmt: skip
def test_what_a_stage_cannot_do_is_refused_before_anything_is_written(model, settings, setting, pipelines, tmp_path):
    asked = {"resolution": 32, "photo_size": (40, 40), **({} if "class_prompt" in settings else ALONE), **settings}
    with pytest.raises(SettingError) as caught:
        run(model=pipelines(model), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, **asked)
    assert caught.value.setting == setting
    assert not (tmp_path / "run").exists()


def test_photos_that_are_smaller_than_the_stage_are_reported(pipelines, tmp_path):
    settings = {**ALONE, "photo_size": (24, 24)}
    records = run(model=pipelines("deepfloyd_superresolution"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=1, **settings)
    assert any("4 of 4 photos are smaller than the 32 pixels" in record.text for record in records if isinstance(record, Message))
