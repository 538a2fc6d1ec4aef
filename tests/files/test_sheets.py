"""Contact sheets: what stands where."""

import pytest
from PIL import Image

from dreambooth.files.images import HEAD, MARGIN, MOST_PHOTOS, PAPER, TILE, contact_sheet, photos_row
from dreambooth.run import previews
from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config

RED, BLUE = (255, 0, 0), (0, 0, 255)


def tiles(sheet: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """The upper left corners of the tiles of one colour, by line and place."""
    found, pixels = [], sheet.load()
    for y in range(1, sheet.height):
        for x in range(1, sheet.width):
            if pixels[x, y] == colour and colour not in (pixels[x - 1, y], pixels[x, y - 1]):
                found.append((x, y))
    return found


def test_a_long_row_goes_on_in_the_next_line_and_a_free_place_stays_free():
    red, blue = (Image.new("RGB", (TILE, TILE), colour) for colour in (RED, BLUE))
    sheet = contact_sheet([("photos", [red] * 5), ("a", [None, blue])], columns=2)
    reds, blues = tiles(sheet, RED), tiles(sheet, BLUE)
    assert len({x for x, _ in reds}) == 2 and len({y for _, y in reds}) == 3 and len(reds) == 5
    assert [x for x, _ in blues] == [max(x for x, _ in reds)] and blues[0][1] > max(y for _, y in reds) + TILE
    assert sheet.getpixel((MARGIN + 5, blues[0][1] + 5)) == PAPER


def test_headed_columns_stand_apart_with_their_words_above_the_second_row():
    red, blue = (Image.new("RGB", (TILE, TILE), colour) for colour in (RED, BLUE))
    rows = [("photos", []), ("a", [red, red, blue, blue]), ("b", [red, red, blue, blue])]
    plain, headed = contact_sheet(rows), contact_sheet(rows, heads={0: "tuned", 2: "untuned"})
    assert (headed.width, headed.height) == (plain.width + MARGIN, plain.height + HEAD)
    (first, second), (third, _) = (sorted({x for x, _ in tiles(headed, colour)}) for colour in (RED, BLUE))
    assert third - second == second - first + MARGIN


@pytest.mark.parametrize(("count", "label"), [(5, "photos"), (MOST_PHOTOS, "photos"), (MOST_PHOTOS + 6, "24 of 30 photos")])
def test_all_photos_are_shown_unless_there_are_very_many(count, label):
    words, images = photos_row(range(count), lambda _: Image.new("RGB", (8, 8)))
    assert words == label and len(images) == min(count, MOST_PHOTOS)


def test_the_sheet_of_a_training_shows_all_photos_and_each_prompt_once_by_its_placeholder(pipelines, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(previews, "write_sheet", lambda path, rows, **given: written.append((rows, given)))
    settings = {
        "instance_data_dir": tiny.photos(tmp_path / "five", count=5), "class_noun": "dog", "identifier": "sks", "max_train_steps": 1,
        "validation_prompt": "a [V] dog in the snow", "validation_inference_steps": 1, "num_validation_images": 1,
        "with_prior_preservation": False, "skip_final_inference": False,
    }  # fmt: skip
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **settings)))
    [(rows, given)] = written
    labels = [label for label, _ in rows]
    assert labels[0] == "photos" and len(rows[0][1]) == 5 and len(labels) == len(set(labels))
    assert "a [V] dog in the snow" in labels and "sks" not in "".join(labels) + given["title"] and "[V] is sks" in given["footer"]
