"""Real photos where they are at hand (DREAMBOOTH_SHARED, or ../shared beside the repository), and drawn ones everywhere."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

SHARED = Path(os.environ.get("DREAMBOOTH_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture(scope="session")
def dreambench() -> Path:
    """Folders of real photos, one for each subject."""
    folder = SHARED / "dreambench"
    if not folder.is_dir():
        pytest.skip(f"no real photos in {folder}; set DREAMBOOTH_SHARED to the folder that holds dreambench/")
    return folder


def scene(seed: int, size: tuple[int, int] = (640, 640), centre: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """A red ball with a blue square on it, before clouds whose colours and shapes depend on the seed."""
    rng = np.random.default_rng(seed)
    w, h = size
    cells = rng.integers(0, 256, (max(2, h // 60), max(2, w // 60)), dtype=np.uint8)
    clouds = np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)[..., None] - 128
    ground = rng.uniform(90, 165, 3) + 0.55 * clouds + rng.normal(0, 5, (h, w, 1))
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    pen, radius = ImageDraw.Draw(image), 0.22 * min(size)
    cx, cy = centre[0] * w, centre[1] * h
    pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=(205, 30, 35), outline=(20, 20, 20), width=4)
    pen.ellipse((cx - radius / 2, cy - 0.8 * radius, cx, cy - 0.4 * radius), fill=(240, 235, 225))
    turn = rng.uniform(-0.5, 0.5)
    pen.rectangle((cx - radius / 2 + turn * radius, cy - radius / 3, cx + radius / 3 + turn * radius, cy + radius / 2), fill=(30, 60, 200))
    return image


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of five good photos, drawn."""
    folder = tmp_path / "album"
    folder.mkdir()
    places = ((0.5, 0.5), (0.4, 0.45), (0.6, 0.55), (0.45, 0.6), (0.55, 0.4))
    for number, centre in enumerate(places):
        scene(number, centre=centre).save(folder / f"{number}.jpg", quality=92)
    return folder
