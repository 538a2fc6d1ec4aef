"""A photo comes upright, in sRGB, opaque, in 8 bits; or as an error that says what to do."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dreambooth.photos.load import PhotoError, load, load_with_facts

QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:], QUARTERS[20:, :30], QUARTERS[20:, 30:] = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)
"""Red, green over blue, yellow: every turn and mirror of it looks different."""


def near(image: Image.Image, array: np.ndarray, within: int = 3) -> bool:
    return image.mode == "RGB" and np.abs(np.asarray(image, int) - array.astype(int)).max() <= within


def as_stored(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """QUARTERS as a camera held in one of eight ways stores it, and what it writes beside."""
    upright = Image.fromarray(QUARTERS)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what the camera did, as Pillow numbers transpositions
    exif = Image.Exif()
    exif[0x0112] = orientation
    return upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation])), exif


def tiled_tiff(image: Image.Image, orientation: int) -> bytes:
    """Tiles of 16 x 16, which Pillow reads and does not write."""
    width, height = image.size
    padded = np.zeros((-(-height // 16) * 16, -(-width // 16) * 16, 3), np.uint8)
    padded[:height, :width] = np.asarray(image)
    places = [(y, x) for y in range(0, padded.shape[0], 16) for x in range(0, padded.shape[1], 16)]
    data = b"".join(padded[y : y + 16, x : x + 16].tobytes() for y, x in places)
    count, at = len(places), 8 + len(data)
    bits, offsets = at + 8 * count, struct.pack(f"<{count}I", *(8 + 768 * i for i in range(count)))
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (274, 3, 1, orientation),
               (277, 3, 1, 3), (322, 4, 1, 16), (323, 4, 1, 16), (324, 4, count, at), (325, 4, count, at + 4 * count)]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    tail = offsets + struct.pack(f"<{count}I", *[768] * count) + struct.pack("<4H", 8, 8, 8, 0)
    return b"II*\0" + struct.pack("<I", bits + 8) + data + tail + directory


TURNED = {
    "jpg": {"quality": 100, "subsampling": 0}, "mpo": {"quality": 100, "subsampling": 0, "save_all": True},
    "png": {}, "webp": {"lossless": True},
    "avif": {"quality": 100, "subsampling": "4:4:4"}, "heic": {"quality": 100}, "raw.tif": {}, "strips.tif": {"strip_size": 180 * 8},
    "lzw.tif": {"compression": "tiff_lzw"}, "deflate.tif": {"compression": "tiff_adobe_deflate"},
    "packbits.tif": {"compression": "packbits"}, "jpeg.tif": {"compression": "jpeg", "quality": 100},
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_every_orientation_is_turned_upright_once_in_every_format_that_has_one(tmp_path, name, orientation):
    if name == "heic":
        pytest.importorskip("pillow_heif", reason="dreambooth[photos] is not installed").register_heif_opener()
    stored, exif = as_stored(orientation)
    more = {"append_images": [stored.copy()]} if name == "mpo" else {}
    stored.save(path := tmp_path / f"photo.{name}", exif=exif.tobytes(), **TURNED[name], **more)
    image, facts = load_with_facts(path)
    assert image.size == facts.size == (60, 40)
    assert all(
        near(image.crop(box), QUARTERS[box[1] : box[3], box[0] : box[2]], 12) for box in ((4, 4, 26, 16), (34, 4, 56, 16), (4, 24, 26, 36))
    )
    assert facts.orientation == orientation or name == "heic", "of HEIC, only the upright picture is to be had"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_of_tiles_and_one_of_two_pages_are_turned_once(tmp_path, orientation):
    stored, exif = as_stored(orientation)
    (tmp_path / "tiles.tif").write_bytes(tiled_tiff(stored, orientation))
    stored.save(tmp_path / "pages.tif", exif=exif, save_all=True, append_images=[stored.rotate(90, expand=True)])
    for name in ("tiles.tif", "pages.tif"):
        assert near(load(tmp_path / name), QUARTERS, 0)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_an_orientation_in_xmp_alone_counts_and_its_transparency_turns_with_it(tmp_path, name):
    stored, _ = as_stored(6)
    stored.putalpha(Image.fromarray(np.where(QUARTERS[..., 2] > 100, 0, 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    more = {"tiffinfo": {700: xmp}} if name == "a.tif" else {"xmp": xmp}
    if name == "a.png":
        more = {"pnginfo": PngInfo()}
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    stored.save(tmp_path / name, lossless=True, **more)
    image, facts = load_with_facts(tmp_path / name)
    white = np.where(QUARTERS[..., 2:] > 100, 255, QUARTERS)
    assert facts.orientation == 6 and facts.alpha.size == image.size and near(image, white, 0)


def test_transparent_parts_take_the_background_and_soft_edges_blend(tmp_path):
    rgba = np.dstack([QUARTERS, np.full(QUARTERS.shape[:2], 255, np.uint8)])
    rgba[:, :30, 3], rgba[:, 30:40, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image, facts = load_with_facts(tmp_path / "a.png", background=(10, 20, 30))
    pixels = np.asarray(image)
    assert (pixels[:, :30] == (10, 20, 30)).all() and abs(int(pixels[0, 35, 1]) - 135) <= 2 and facts.alpha is not None
    assert (np.asarray(load(tmp_path / "a.png"))[:, :30] == 255).all()


@pytest.mark.parametrize("mode", ["P", "LA", "La", "PA", "RGBa"])
def test_palettes_and_grey_with_alpha_come_out_right(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    image = Image.fromarray(grey)
    if mode == "P":
        image = image.convert("P")
        image.save(tmp_path / "a.png", transparency=0)
        assert (np.asarray(load(tmp_path / "a.png"))[:, 0] == 255).all()
    else:
        image.convert("LA").save(tmp_path / "a.png")
        assert near(load(tmp_path / "a.png"), np.stack([grey] * 3, -1), 1)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))
    expected = np.stack([np.rint(ramp / 257)] * 3, -1)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        assert near(load(tmp_path / name), expected, 1)
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tif")
    assert near(load(tmp_path / "float.tif"), expected, 1)


def test_cmyk_comes_out_in_its_colours(tmp_path):
    Image.fromarray(QUARTERS).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    image, facts = load_with_facts(tmp_path / "a.jpg")
    assert facts.mode == "CMYK" and np.abs(np.asarray(image, int)[5, 5] - (250, 0, 0)).max() <= 8


def profile_with_red_and_green_swapped() -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(struct.unpack(">I", data[128:132])[0])}
    for red, green in ((b"rXYZ", b"gXYZ"), (b"rTRC", b"gTRC")):
        r, g = tags[red], tags[green]
        data[r : r + 8], data[g : g + 8] = data[g : g + 8], data[r : r + 8]
    return bytes(data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")))


def test_an_embedded_profile_is_honoured(tmp_path):
    swapped = QUARTERS[..., [1, 0, 2]]
    Image.fromarray(swapped).save(tmp_path / "a.png", icc_profile=profile_with_red_and_green_swapped())
    image, facts = load_with_facts(tmp_path / "a.png")
    assert "swap" in facts.profile and near(image, QUARTERS, 6)


def test_a_damaged_profile_costs_a_warning_and_not_the_photo(tmp_path):
    Image.fromarray(QUARTERS).save(tmp_path / "a.png", icc_profile=b"not a profile")
    image, facts = load_with_facts(tmp_path / "a.png")
    assert facts.profile == "unreadable" and near(image, QUARTERS)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(QUARTERS), Image.fromarray(QUARTERS[::-1].copy())]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        image, facts = load_with_facts(tmp_path / name)
        assert facts.frames > 1 and near(image, QUARTERS, 2)


def test_avif_and_webp_are_read(tmp_path):
    smooth = Image.fromarray(QUARTERS).resize((120, 80))
    for name in ("a.webp", "a.avif"):
        smooth.save(tmp_path / name, quality=95)
        assert np.abs(np.asarray(load(tmp_path / name), int) - np.asarray(smooth, int)).mean() < 4


def test_heic_is_read_with_its_extra_and_named_without(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="dreambooth[photos] is not installed")
    smooth = Image.fromarray(QUARTERS).resize((120, 80))
    heif.from_pillow(smooth).save(tmp_path / "a.heic", quality=95)
    assert np.abs(np.asarray(load(tmp_path / "a.heic"), int) - np.asarray(smooth, int)).mean() < 6
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"dreambooth\[photos\]"):
        load(tmp_path / "a.heic")


def png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_500, 12_500), (30_000, 30_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of(*size))
    with pytest.raises(PhotoError, match=r"too large|damaged"):
        load(tmp_path / "a.png")


def test_a_jpeg_of_thousands_of_passes_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:start] + data[start:-2] * 2000 + b"\xff\xd9")
    with pytest.raises(PhotoError, match="passes"):
        load(tmp_path / "a.jpg")


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a", b"PK\x03\x04zip", b"BM" + b"\0" * 40, b"RIFF\0\0\0\0WEBP", b"hello"])
def test_what_is_no_picture_is_refused_with_file_reason_and_fix(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(PhotoError, match=r"a\.jpg") as raised:
        load(tmp_path / "a.jpg")
    assert raised.value.reason and raised.value.fix


def test_a_missing_file_and_a_folder_are_refused_like_photos(tmp_path):
    for path in (tmp_path / "nothing.jpg", tmp_path):
        with pytest.raises(PhotoError):
            load(path)
