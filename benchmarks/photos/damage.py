"""Damage as it happens to photos, done on purpose and by a known amount, so that the checks can be measured.

Sizes are in pixels of a picture whose shorter side is 512, so that the same words mean the same on any photo.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont


def _px(image: Image.Image, pixels: float) -> float:
    return pixels * min(image.size) / 512


def blur(image: Image.Image, sigma: float = 2.0) -> Image.Image:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur(_px(image, sigma)))


def shake(image: Image.Image, length: float = 11, angle: float = 0.4) -> Image.Image:
    """A camera moved in a straight line while the shutter was open; `angle` in radians."""
    steps, pixels = max(2, round(_px(image, length))), np.asarray(image, dtype=np.float32)
    n, (h, w, _) = steps, pixels.shape
    padded, total = np.pad(pixels, ((n, n), (n, n), (0, 0)), mode="edge"), np.zeros_like(pixels)
    for t in np.linspace(-n / 2, n / 2, steps):
        dy, dx = round(t * np.sin(angle)), round(t * np.cos(angle))
        total += padded[n + dy : n + dy + h, n + dx : n + dx + w]
    return Image.fromarray((total / steps).astype(np.uint8))


def enlarge(image: Image.Image, factor: int = 4) -> Image.Image:
    """A thumbnail blown up to the old size."""
    small = image.resize((image.width // factor, image.height // factor), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def expose(image: Image.Image, stops: float) -> Image.Image:
    """So many stops more light (clipped at white, as a sensor does) or less."""
    a = np.asarray(image, dtype=np.float32) / 255
    linear = np.where(a <= 0.04045, a / 12.92, ((a + 0.055) / 1.055) ** 2.4) * 2.0**stops
    linear = np.clip(linear, 0, 1)
    out = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.rint(out * 255).astype(np.uint8))


def fog(image: Image.Image, strength: float = 0.65) -> Image.Image:
    """Everything pulled towards a light grey."""
    return Image.blend(image, Image.new("RGB", image.size, (190, 190, 190)), strength)


def grey(image: Image.Image) -> Image.Image:
    """A black-and-white copy."""
    return image.convert("L").convert("RGB")


def jpeg(image: Image.Image, quality: int = 10) -> Image.Image:
    """Saved as JPEG far too small."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def frame(image: Image.Image, share: float = 0.06, colour: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A letterbox: bands of one colour at the top and the bottom."""
    out, depth = image.copy(), round(share * image.height)
    ImageDraw.Draw(out).rectangle((0, 0, image.width, depth), fill=colour)
    ImageDraw.Draw(out).rectangle((0, image.height - depth, image.width, image.height), fill=colour)
    return out


def stamp(image: Image.Image, text: str = "2024-07-14 18:32", colour: tuple[int, int, int] = (255, 160, 40)) -> Image.Image:
    """A camera's date in the lower right corner."""
    out, size = image.copy(), _px(image, 22)
    font = ImageFont.load_default(size)
    width = ImageDraw.Draw(out).textlength(text, font=font)
    ImageDraw.Draw(out).text((image.width - width - _px(image, 14), image.height - 2.0 * size), text, fill=colour, font=font)
    return out


def watermark(image: Image.Image, text: str = "STOCK PHOTO", opacity: float = 0.45) -> Image.Image:
    """Half-transparent words all over, as picture agencies do."""
    layer = Image.new("L", image.size, 0)
    font, draw, step = ImageFont.load_default(_px(image, 40)), ImageDraw.Draw(layer), _px(image, 120)
    for row in range(6):
        for column in range(-1, 3):
            draw.text((column * 2.4 * step + row % 2 * step, (row + 0.2) * step * 0.9), text, fill=round(255 * opacity), font=font)
    return Image.composite(Image.new("RGB", image.size, (255, 255, 255)), image, layer)


def crop(image: Image.Image, left: float, top: float, side: float) -> Image.Image:
    """A square part, `left`, `top` and `side` as shares of the shorter side."""
    s = min(image.size)
    box = (round(left * s), round(top * s), round((left + side) * s), round((top + side) * s))
    return image.crop(box).resize((s, s), Image.Resampling.LANCZOS)
