"""Numbers about one photo that tell whether it will teach or spoil: sharpness, light, borders, blocks.

All are taken at the size of training (the shorter side brought to `resolution`), because that is what the model will see: a photo
of 12 million slightly soft pixels is sharp at 512. All are ratios that a change of light or contrast leaves alone where possible.
"""

from dataclasses import dataclass
from typing import Any

from PIL import Image

WORKING_SIDE = 768
"""Shorter side in pixels of the copy in which the subject is looked for and photos are compared: larger ones only take time."""
BRIGHT, EVEN, PLAIN = 200.0, 12.0, 0.8
"""A backdrop: its darkest channel at least, its levels of difference at most, and the share of the edge above which there is one."""
BLOCK = 32
"""Side in pixels of the squares in which sharpness is taken: a subject in focus before a blurred background is sharp."""


@dataclass(frozen=True)
class Measures:
    """What `measure` finds; the checks in `check.py` compare these with thresholds."""

    sharpness: float
    """Energy of the finest detail over that of detail four times as large, in the sharpest blocks; about 0.6 and more is sharp."""
    evenness: float
    """Sharpness across over sharpness along the direction of most blur, 0 to 1; low for a shaken camera."""
    brightest: float
    """The 99th percentile of luminance, 0 to 255."""
    backdrop: float
    """Share of the picture's edge that is one bright colour: near 1 before a white wall or on a shop's page."""
    burnt: float
    """Share of pixels, white ones and a bright backdrop left out, in which a colour channel is at its end: burnt, not merely white."""
    contrast: float
    """99th minus 1st percentile of luminance, 0 to 255."""
    colour: float
    """95th percentile of the difference between a pixel's largest and smallest channel, 0 to 255; 0 is greyscale."""
    border: float
    """The deepest one-coloured band at a side, as a share of the picture's side; 0 without one."""
    blocks: float
    """How much larger the steps at every eighth pixel are than elsewhere: JPEG's blocks."""


def measure(image: Image.Image, resolution: int = 512, *, small_copy: Image.Image | None = None) -> Measures:
    """All measures of an RGB photo, in a few hundredths of a second; `small_copy` is it, not smaller than for training."""
    import numpy as np

    at_training = fitted(small_copy or image, resolution)
    rgb = np.asarray(at_training, dtype=np.float32)
    grey = luminance(rgb)
    small = np.asarray(at_training.resize((160, 160), Image.Resampling.BOX), dtype=np.float32)
    light = np.quantile(luminance(small), [0.01, 0.99])
    return Measures(
        sharpness=_sharpness(grey), evenness=_evenness(grey), brightest=float(light[1]), backdrop=_backdrop(small)[0], burnt=_burnt(small),
        contrast=float(light[1] - light[0]), colour=float(np.quantile(small.max(2) - small.min(2), 0.95)),
        border=_border(rgb), blocks=_blocks(image),
    )  # fmt: skip


def fitted(image: Image.Image, resolution: int) -> Image.Image:
    """The photo with its shorter side brought down to `resolution`; smaller ones stay as they are."""
    scale = resolution / min(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS, reducing_gap=2)


def luminance(rgb: Any) -> Any:
    """Rec. 601 luma, as JPEG and Pillow's mode L have it."""
    import numpy as np

    return rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def blurred(values: Any, sigma: float) -> Any:
    """Gaussian blur of a two-dimensional array, borders repeated."""
    import numpy as np

    radius = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    h, w = values.shape
    tall = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    values = sum(k * tall[i : i + h] for i, k in enumerate(weights))
    wide = np.pad(values, ((0, 0), (radius, radius)), mode="edge")
    return sum(k * wide[:, i : i + w] for i, k in enumerate(weights))


def _energy(values: Any) -> Any:
    """Root mean square in each block."""
    import numpy as np

    b = min(BLOCK, *values.shape)
    h, w = values.shape[0] // b * b, values.shape[1] // b * b
    return np.sqrt((values[:h, :w] ** 2).reshape(h // b, b, w // b, b).mean((1, 3)))


def _sharpness(grey: Any) -> float:
    import numpy as np

    fine, middle, coarse = blurred(grey, 0.8), blurred(grey, 1.6), blurred(grey, 3.2)
    return float(np.quantile(_energy(grey - fine) / (_energy(middle - coarse) + 1), 0.98))


def _evenness(grey: Any) -> float:
    """Shake smears along one direction and leaves the one across it: each direction's sharpness against its perpendicular's."""
    import numpy as np

    if min(grey.shape) < 40:
        return 1.0
    soft, (h, w) = blurred(grey, 1.6), grey.shape
    sharp = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):

        def curved(values: Any, step: int, dy: int = dy, dx: int = dx) -> Any:
            def shifted(k: int) -> Any:
                return values[6 + dy * k : h - 6 + dy * k, 6 + dx * k : w - 6 + dx * k]

            return shifted(0) - (shifted(step) + shifted(-step)) / 2

        sharp.append(float(np.quantile(_energy(curved(grey, 1)) / (_energy(curved(soft, 4)) + 1), 0.9)))
    pairs = ((sharp[0], sharp[1]), (sharp[2], sharp[3]))
    return min(min(p) / max(max(p), 1e-6) for p in pairs) if max(sharp) > 0.01 else 1.0


def _backdrop(small: Any) -> tuple[float, Any]:
    """How much of the edge is one bright colour, and where in the picture that colour is."""
    import numpy as np

    edge = np.concatenate([small[:4].reshape(-1, 3), small[-4:].reshape(-1, 3), small[:, :4].reshape(-1, 3), small[:, -4:].reshape(-1, 3)])
    colour = np.median(edge, axis=0)
    if colour.min() < BRIGHT:
        return 0.0, np.zeros(small.shape[:2], dtype=bool)
    return float((np.abs(edge - colour).max(1) <= EVEN).mean()), np.abs(small - colour).max(2) <= 2 * EVEN


def _burnt(small: Any) -> float:
    import numpy as np

    share, behind = _backdrop(small)
    burnt, white = small.max(2) >= 252, (small.min(2) >= 240) | (behind if share > PLAIN else False)
    return float((burnt & ~white).sum() / max((~white).sum(), small[..., 0].size // 50)) if np.any(burnt) else 0.0


def _border(rgb: Any) -> float:
    """Rows of one colour that end at once, over most of the width: a frame or letterbox, not a plain backdrop."""
    import numpy as np

    deepest = 0.0
    for view in (rgb, rgb[::-1], rgb.transpose(1, 0, 2), rgb.transpose(1, 0, 2)[::-1]):
        n = len(view)
        colour = np.median(view[0], axis=0)
        away = np.abs(view[: int(0.4 * n)] - colour).max(2)
        plain = np.quantile(away, 0.98, axis=1) <= 8
        depth = int(np.argmin(plain)) if not plain.all() else 0
        inside = min(depth + 2, len(away) - 1)
        if depth >= max(3, 0.01 * n) and (away[inside] > 14).mean() > 0.5:
            deepest = max(deepest, depth / n)
    return deepest


def _blocks(image: Image.Image) -> float:
    """Steps across columns and rows, gathered by their place modulo 8: JPEG coded too hard leaves one place with larger steps.

    Its squares have two directions: what is seen in one alone is floorboards or the edge of a wall.
    """
    import numpy as np

    left, top = max(0, (image.width - 1024) // 2), max(0, (image.height - 1024) // 2)
    grey = np.asarray(image.crop((left, top, left + 1024, top + 1024)).convert("L"), dtype=np.float32)
    grey = grey[: image.height, : image.width]
    found = []
    for view in (grey, grey.T):
        steps = np.abs(np.diff(view, axis=1))
        steps = np.minimum(steps, 40).mean(0)
        count = len(steps) // 8
        if count < 4:
            return 0.0
        places = np.sort(np.median(steps[: count * 8].reshape(count, 8), axis=0))
        found.append(float((places[-1] - places[-2]) / (places[3] + 1)))
    return min(max(found), 4 * min(found))
