"""--aspect_ratio_buckets: photos of different shapes are trained whole, at equal area."""

import math

import pytest
import torch
from PIL import Image

from dreambooth.core.batch import pieces_of
from dreambooth.core.errors import SettingError
from dreambooth.families.sampling import Sampling, check
from dreambooth.run.material import cutter_of, gather, make_batches
from dreambooth.run.train import train
from dreambooth.setup.model import load_base
from dreambooth.training.crops import LONGEST, Cropping, Cutter, bucket_shapes
from dreambooth.training.ranks import Ranks
from dreambooth.training.records import Message
from tests import tiny
from tests.training.runs import config, same_files, weights

SIZES = [(24, 24), (48, 24), (24, 48), (36, 24), (48, 24)]
"""Width and height of the photos."""


@pytest.fixture
def mixed(tmp_path):
    """A folder of photos of several shapes."""
    for number, size in enumerate(SIZES):
        folder = tiny.photos(tmp_path / f"one-{number}", count=number + 1, size=size)
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (folder / f"{number}.png").rename(tmp_path / "mixed" / f"{number}.png")
    return tmp_path / "mixed"


def settings(mixed, tmp_path, base, **more):
    given = {"instance_data_dir": str(mixed), "aspect_ratio_buckets": True, "crops_per_photo": 2, "center_crop": False, "method": "lora"}
    return config(base, root=tmp_path, **given | more)


def batches_of(given):
    """The batches of a run without class images."""
    given = given.updated({("prior", "with_prior_preservation"): False})
    return list(make_batches(given, gather(given, "sks"), load_base(given), Ranks(0, 1, torch.device("cpu")), 1))[-1]


def run(given, tmp_path, name: str) -> list[str]:
    given = given.updated({("output", "output_dir"): str(tmp_path / name)})
    return [record.text for record in train(given) if isinstance(record, Message)]


@pytest.mark.parametrize(("resolution", "step"), [(16, 2), (512, 8), (768, 16), (1000, 8), (1024, 32), (64, 4)])
def test_shapes_have_nearly_the_area_of_the_square_and_sides_that_the_model_takes(resolution, step):
    shapes = bucket_shapes(resolution, step=step)
    assert (resolution, resolution) in shapes or resolution % 64
    stride = math.gcd(*(side for shape in shapes for side in shape))
    for height, width in shapes:
        assert height % step == width % step == 0 and (width, height) in shapes
        assert resolution**2 - stride * max(height, width) < height * width <= resolution**2
        assert max(height, width) <= LONGEST * min(height, width)
    assert len(shapes) > 4 and shapes == tuple(sorted(set(shapes)))


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_every_family_draws_and_learns_each_of_its_shapes(name, pipelines, tmp_path):
    given = config(pipelines(name), root=tmp_path, aspect_ratio_buckets=True)
    family = tiny.load(pipelines(name))
    shapes = cutter_of(given, family).shapes
    assert len(shapes) > 1
    for height, width in shapes:
        check(family, Sampling(height=height, width=width))
        assert [side * family.vae_factor for side in family.latent_shape(height, width)[1:]] == [height, width]


def test_no_side_is_longer_than_the_model_has_positions_for():
    assert max(max(shape) for shape in bucket_shapes(1024, step=16, longest=1280)) <= 1280


def test_a_picture_gets_the_shape_nearest_to_its_own_and_loses_little():
    cutter = Cutter(Cropping(aspect_ratio_buckets=True), 512, 0, bucket_shapes(512, step=8))
    found = {size: cutter.shape(size) for size in [(4000, 3000), (3000, 4000), (1000, 1000), (1920, 1080), (9000, 1000), (1000, 9000)]}
    assert found[4000, 3000] == found[3000, 4000][::-1] and found[1000, 1000] == (512, 512)
    assert found[1920, 1080][1] > found[4000, 3000][1] and found[9000, 1000] == (320, 704)
    for size, (height, width) in list(found.items())[:4]:
        whole = cutter.size(size)
        assert whole[0] >= width and whole[1] >= height and width * height > 0.85 * whole[0] * whole[1]


def test_without_the_setting_all_are_squares(mixed, tmp_path, pipelines):
    made = batches_of(settings(mixed, tmp_path, pipelines("stable_diffusion"), aspect_ratio_buckets=False))
    assert {crop.shape for crop in made.photos.crops} == {(16, 16)} and isinstance(made.photos.moments, torch.Tensor)
    assert len(made.by_shape(0, 0, 2)) == 1


def test_every_batch_has_one_shape_and_every_photo_its_turn(mixed, tmp_path, pipelines):
    made = batches_of(settings(mixed, tmp_path, pipelines("stable_diffusion"), train_batch_size=5))
    for update in range(3):
        batches = made.by_shape(update, 0, 5)
        assert sorted(torch.cat([batch.photo for batch in batches]).tolist()) == [0, 1, 2, 3, 4]
        assert len(batches) == 4 and len({batch.x.shape[2:] for batch in batches}) == 4
        for batch in batches:
            assert batch.eps.shape == batch.x.shape
            for photo in batch.photo.tolist():
                assert (batch.x.shape[3] > batch.x.shape[2]) == (SIZES[photo][0] > SIZES[photo][1])
        assert torch.cat([batch.weight for batch in batches]).tolist() == pytest.approx([0.2] * 5)
        again = made.by_shape(update, 0, 5)
        assert all(torch.equal(one.x, other.x) and torch.equal(one.t, other.t) for one, other in zip(batches, again, strict=True))


def test_rows_are_the_same_however_an_update_is_shared_out(mixed, tmp_path, pipelines):
    made = batches_of(settings(mixed, tmp_path, pipelines("stable_diffusion"), train_batch_size=5))

    def rows(parts):  # fmt: skip
        return {int(p): batch.x[i] for batch in parts for i, p in enumerate(batch.photo)}

    whole, parts = rows(made.by_shape(2, 0, 5)), rows([*made.by_shape(2, 0, 2), *made.by_shape(2, 2, 5)])
    assert whole.keys() == parts.keys() and all(torch.equal(value, parts[photo]) for photo, value in whole.items())


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_no_piece_is_larger_than_one_of_an_update_of_squares(pieces, mixed, tmp_path, pipelines):
    batches = batches_of(settings(mixed, tmp_path, pipelines("stable_diffusion"), train_batch_size=5)).by_shape(0, 0, 5)
    cut = list(pieces_of(batches, pieces))
    assert sum(map(len, cut)) == 5 and max(map(len, cut)) <= math.ceil(5 / pieces)


def test_the_cache_changes_nothing_but_the_time(mixed, tmp_path, pipelines):
    cached, fresh = (
        batches_of(settings(mixed, tmp_path, pipelines("sdxl"), train_batch_size=5, random_flip=True, cache_latents=cache))
        for cache in (True, False)
    )
    for left, right in zip(cached.by_shape(1, 0, 5), fresh.by_shape(1, 0, 5), strict=True):
        torch.testing.assert_close(left.x, right.x, rtol=0, atol=1e-5)
        assert left.condition.keys() == right.condition.keys() and torch.equal(left.photo, right.photo)


def test_sdxl_is_conditioned_on_the_shape_that_is_trained(mixed, tmp_path, pipelines):
    made = batches_of(settings(mixed, tmp_path, pipelines("sdxl"), train_batch_size=5))
    for batch in made.by_shape(0, 0, 5):
        height, width = (side * made.family.vae_factor for side in batch.x.shape[2:])
        for ids, photo in zip(batch.condition["time_ids"], batch.photo.tolist(), strict=True):
            assert ids[4:].tolist() == [height, width] and ids[:2].tolist() == [SIZES[photo][1], SIZES[photo][0]]


def test_masks_have_the_shape_of_their_crops(mixed, tmp_path, pipelines):
    (tmp_path / "masks").mkdir()
    for number, size in enumerate(SIZES):
        mask = Image.new("L", size)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        mask.save(tmp_path / "masks" / f"{number}.png")
    more = {"masked_loss": True, "mask_dir": str(tmp_path / "masks"), "train_batch_size": 5, "center_crop": True}
    for batch in batches_of(settings(mixed, tmp_path, pipelines("stable_diffusion"), **more)).by_shape(0, 0, 5):
        assert batch.mask is not None and batch.mask.shape[2:] == batch.x.shape[2:]
        assert 0.4 < batch.mask.mean().item() < 0.6


@pytest.mark.parametrize("name", ["stable_diffusion", "flux2", "sd3"])
def test_a_run_with_class_images_learns_is_planned_and_goes_on_bit_for_bit(name, mixed, tmp_path, pipelines):
    few = {"max_train_steps": 4, "train_batch_size": 2, "gradient_accumulation_steps": 2, "checkpointing_steps": 2, "learning_rate": 1e-2}
    given = settings(mixed, tmp_path, pipelines(name), **few)
    said = run(given, tmp_path, "run")
    assert any("16 x 16: 1" in text for text in said), "the plan has the shapes"
    half = given.updated({("loop", "max_train_steps"): 2})
    run(half, tmp_path, "again")
    run(given.updated({("loop", "resume_from_checkpoint"): "latest"}), tmp_path, "again")
    same_files(weights(tmp_path / "run"), weights(tmp_path / "again"))
    with pytest.raises(SettingError, match="aspect_ratio_buckets"):
        other = {("cropping", "aspect_ratio_buckets"): False, ("loop", "resume_from_checkpoint"): "latest", ("loop", "max_train_steps"): 5}
        run(given.updated(other), tmp_path, "again")


def test_photos_of_one_shape_learn_alike_with_and_without_when_they_are_squares(tmp_path, pipelines):
    folder = tiny.photos(tmp_path / "squares")
    for name, buckets in (("with", True), ("without", False)):
        run(settings(folder, tmp_path, pipelines("stable_diffusion"), aspect_ratio_buckets=buckets, max_train_steps=2), tmp_path, name)
    same_files(weights(tmp_path / "with"), weights(tmp_path / "without"))


def test_pieces_of_an_update_learn_what_the_whole_does(mixed, tmp_path, pipelines):
    from safetensors.torch import load_file

    found = []
    for pieces, size in ((1, 4), (4, 1)):
        more = {"train_batch_size": size, "gradient_accumulation_steps": pieces, "max_train_steps": 2}
        run(settings(mixed, tmp_path, pipelines("stable_diffusion"), **more), tmp_path, str(pieces))
        found.append(load_file(tmp_path / str(pieces) / "pytorch_lora_weights.safetensors"))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-5)
