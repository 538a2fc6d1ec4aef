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
    """A red ball with a blue square on it, before a smooth ground whose colours and stripes depend on the seed."""
    rng = np.random.default_rng(seed)
    w, h = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) / rng.uniform(14, 30))[..., None]
    ground = rng.uniform(60, 190, 3) + 18 * stripes + rng.normal(0, 3, (h, w, 1))
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    pen, radius = ImageDraw.Draw(image), 0.22 * min(size)
    cx, cy = centre[0] * w, centre[1] * h
    pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=(205, 30, 35), outline=(20, 20, 20), width=4)
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
