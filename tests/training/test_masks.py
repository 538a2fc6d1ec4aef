"""The masked loss: where masks come from, how they are cut, and that the background teaches nothing."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.loss import squared_error
from dreambooth.photos.load import load_with_facts
from dreambooth.run.train import train
from dreambooth.training.batches import Batches, Draw, ImageSet, TrainingData, text_table
from dreambooth.training.crops import Cropping, Cutter, Picture
from dreambooth.training.masks import mask_of
from dreambooth.training.objective import Objective
from tests import tiny
from tests.training import runs


def half(size: tuple[int, int] = (24, 24)) -> Image.Image:
    """White on the left half."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def found(photo: Path, folder: str | None) -> Image.Image:
    return mask_of(photo, load_with_facts(photo)[1], folder)


def test_the_mean_is_over_what_the_mask_shows():
    pred, target = torch.zeros(3, 2, 2, 2), torch.zeros(3, 2, 2, 2)
    pred[:, 0, 0, 0], pred[:, 1, 1, 1] = 2.0, 3.0
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]], [[[0.0, 1.0], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    expected = torch.tensor([(4 * 1 + 9 * 0.5) / (2 * 1.5), 0.0, (4 + 9) / 8])
    torch.testing.assert_close(squared_error(pred, target, mask), expected)
    torch.testing.assert_close(squared_error(pred, target)[2:], expected[2:])
    assert squared_error(pred, target, torch.zeros(3, 1, 2, 2)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_cut_and_mirrored_with_their_photos_and_the_prior_counts_whole(pipelines, flip):
    family = tiny.load(pipelines("stable_diffusion"))
    photo = Image.merge("RGB", [half()] * 3)
    image_set, prior = ImageSet(), ImageSet()
    cutter = Cutter(Cropping(random_flip=flip), 16)
    image_set.add(Picture("photo", photo, [0], half()), cutter)
    prior.add(Picture("class", photo, [1]), cutter)
    for cut in image_set.crops:
        assert torch.equal(cut.mask, cut.pixels[:1])
    data = TrainingData(image_set, prior, text_table(family, ["a sks dog", "a dog"]))
    batches = Batches(family, data, Draw(num_photos=1, num_prior=1, seed=0), Objective(masked_loss=True))
    batch = batches.make(0, 0, 2)
    left = torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1)
    assert any(torch.allclose(batch.mask[0, 0], side, atol=0.1) for side in (left, left.flip(-1))[: 1 + flip])
    assert torch.equal(batch.mask[1], torch.ones(1, 8, 8))
    assert batch.rows(1, 2).mask.shape == (1, 1, 8, 8)


def test_a_mask_comes_from_the_folder_or_the_transparency(tmp_path):
    folder = tiny.photos(tmp_path / "photos", count=3)
    (folder / "masks").mkdir()
    half().save(folder / "masks" / "0.png")
    assert found(folder / "0.png", None).tobytes() == half().tobytes()
    cut_out = Image.open(folder / "1.png").convert("RGBA")
    cut_out.putalpha(half())
    cut_out.save(folder / "1.png")
    assert found(folder / "1.png", None).tobytes() == half().tobytes()
    with pytest.raises(SettingError, match=r"--masked_loss: 2\.png has no mask.*photos/masks"):
        found(folder / "2.png", None)
    other = tmp_path / "other"
    other.mkdir()
    half((12, 24)).save(other / "2.png")
    with pytest.raises(SettingError, match="12 x 24 pixels, the photo 24 x 24"):
        found(folder / "2.png", str(other))


def test_a_run_learns_with_masks_and_refuses_a_folder_that_has_no_use(pipelines, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(4):
        half().save(masks / f"{number}.png")
    settings = {"method": "lora", "max_train_steps": 2, "mask_dir": str(masks)}
    wanted = runs.config(pipelines("stable_diffusion"), root=tmp_path, output_dir=str(tmp_path / "masked"), masked_loss=True, **settings)
    *_, done = train(wanted)
    assert done.record["state"] == "finished"
    with pytest.raises(SettingError, match="--mask_dir: masks have no use yet"):
        next(train(runs.config(pipelines("stable_diffusion"), root=tmp_path, output_dir=str(tmp_path / "x"), **settings)))
