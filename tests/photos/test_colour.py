"""What a file's numbers mean as colours is believed by its numbers, and comes out as the formulas of colour spaces say."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dreambooth.photos.colour import ADOBE, D65, PRIMARIES, SRGB, matrix_profile
from dreambooth.photos.image_checks import facts_findings
from dreambooth.photos.load import load, load_with_facts

P3 = PRIMARIES[12]
COLOURS = np.random.default_rng(0).integers(20, 236, (24, 32, 3), dtype=np.uint8)
LCMS = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def shown(colours: np.ndarray, primaries=SRGB, gamma: float | None = None) -> np.ndarray:
    """The same light in sRGB, by the formulas: decoded, through XYZ, encoded, clipped."""

    def matrix(points) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points]).T
        return columns * np.linalg.solve(columns, [D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])

    values = colours / 255
    light = values**gamma if gamma else np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ (np.linalg.inv(matrix(SRGB)) @ matrix(primaries)).T, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def is_near(image: Image.Image, expected: np.ndarray, within: float = 2) -> bool:
    return image.mode == "RGB" and np.abs(np.asarray(image, float) - expected).max() <= within


@pytest.mark.parametrize("name", ["sRGB", "Linear sRGB of somebody", "display", "Rec709"])
@pytest.mark.parametrize(("primaries", "gamma"), [(SRGB, 1.0), (SRGB, 1.8), (P3, None), (ADOBE, 563 / 256)])
def test_a_profile_is_followed_whatever_its_name_says(tmp_path, primaries, gamma, name):
    for suffix in ("png", "tif", "webp"):
        profile = matrix_profile(primaries, gamma=gamma, name=name)
        Image.fromarray(COLOURS).save(tmp_path / f"a.{suffix}", icc_profile=profile, **({"lossless": True} if suffix == "webp" else {}))
        image, facts = load_with_facts(tmp_path / f"a.{suffix}")
        assert is_near(image, shown(COLOURS, primaries, gamma)) and facts.profile == name and facts.is_converted


@pytest.mark.parametrize("name", ["sRGB", "c2", "linear, it says"])
def test_a_profile_with_srgbs_numbers_changes_no_byte_whatever_its_name_says(tmp_path, name):
    for profile in (LCMS, matrix_profile(SRGB, name=name)):
        Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile)
        image, facts = load_with_facts(tmp_path / "a.png")
        assert np.array_equal(image, COLOURS) and not facts.is_converted and not facts_findings(tmp_path / "a.png", facts)


def test_grey_follows_its_profile_and_that_of_rgb(tmp_path):
    grey = COLOURS[..., 0]
    gamma = bytearray(matrix_profile(SRGB, gamma=1.0).replace(b"RGB XYZ ", b"GRAYXYZ ").replace(b"rTRC", b"kTRC"))
    for profile in (bytes(gamma), matrix_profile(SRGB, gamma=1.0)):
        Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=profile)
        assert is_near(load(tmp_path / "a.png"), shown(np.stack([grey] * 3, -1), gamma=1.0))


def ink_profile() -> bytes:
    """A press whose cyan prints red: corners of a CMYK cube in Lab, as ICC's lut8Type."""
    lab = {(0, 0, 0): (255, 128, 128), (1, 0, 0): (136, 208, 195)}  # white, and what is not red falls to black
    cube = [lab.get(inks[:3], (0, 128, 128)) if not inks[3] else (0, 128, 128) for inks in np.ndindex(2, 2, 2, 2)]
    line = bytes(range(256))
    table = (
        b"mft1\0\0\0\0\4\3\2\0"
        + struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
        + line * 4
        + bytes(np.ravel(cube).tolist())
        + line * 3
    )
    words = matrix_profile(SRGB, name="sRGB, says the press")
    profile = words[:128].replace(b"RGB XYZ ", b"CMYKLab ").replace(b"mntr", b"prtr")
    table += bytes(-len(table) % 4)
    size = 132 + 12 + len(table)
    return struct.pack(">I", size) + profile[4:] + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_inks_follow_their_press(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:, 0] = 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=ink_profile())
    image, facts = load_with_facts(tmp_path / "a.tif")
    left, right = np.asarray(image)[8, 2].astype(int), np.asarray(image)[8, 12].astype(int)
    assert left.min() > 250 and right[0] > 200 and right[1:].max() < 60 and facts.mode == "CMYK" and facts.is_converted


def test_a_profile_of_another_kind_of_picture_is_left_out_and_reported(tmp_path):
    for name, profile in (("ink.png", ink_profile()), ("broken.png", matrix_profile(P3)[:-40])):
        Image.fromarray(COLOURS).save(tmp_path / name, icc_profile=profile)
        image, facts = load_with_facts(tmp_path / name)
        assert np.array_equal(image, COLOURS)
        assert [(f.check, f.severity) for f in facts_findings(tmp_path / name, facts)] == [("profile", "warning")]


def png(path, colours, *chunks: tuple[bytes, bytes], **more) -> None:
    info = PngInfo()
    for name, data in chunks:
        info.add(name, data)
    Image.fromarray(colours).save(path, pnginfo=info, **more)


def chromaticities(primaries) -> bytes:
    return struct.pack(">8I", *(round(100000 * value) for point in (D65, *primaries) for value in point))


@pytest.mark.parametrize(
    ("chunks", "primaries", "gamma"),
    [
        ([(b"gAMA", struct.pack(">I", 100000))], SRGB, 1.0),
        ([(b"gAMA", struct.pack(">I", 55556))], SRGB, 1.8),
        ([(b"cHRM", chromaticities(P3))], P3, None),
        ([(b"gAMA", struct.pack(">I", 45470)), (b"cHRM", chromaticities(ADOBE))], ADOBE, None),
        ([(b"cICP", bytes([12, 13, 0, 1]))], P3, None),
        ([(b"cICP", bytes([9, 8, 0, 1]))], PRIMARIES[9], 1.0),
        ([(b"cICP", bytes([1, 4, 0, 1])), (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))], SRGB, 2.2),
    ],
)
def test_a_png_says_it_in_chunks(tmp_path, chunks, primaries, gamma):
    png(tmp_path / "a.png", COLOURS, *chunks)
    assert is_near(load(tmp_path / "a.png"), shown(COLOURS, primaries, gamma))
    grey = np.stack([COLOURS[..., 0]] * 3, -1)
    png(tmp_path / "grey.png", COLOURS[..., 0], *chunks)
    assert is_near(load(tmp_path / "grey.png"), shown(grey, SRGB, gamma))


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chromaticities(SRGB))],
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chromaticities(SRGB))],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))],
        [(b"gAMA", struct.pack(">I", 0))],
        [(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100000))],
        [(b"cICP", bytes([2, 2, 0, 1]))],
    ],
)
def test_a_png_that_says_srgb_changes_no_byte(tmp_path, chunks):
    png(tmp_path / "a.png", COLOURS, *chunks)
    image, facts = load_with_facts(tmp_path / "a.png")
    assert np.array_equal(image, COLOURS) and not facts.is_converted and not facts.colour_problem


def test_code_points_count_more_than_a_profile_and_a_profile_more_than_other_chunks(tmp_path):
    png(tmp_path / "a.png", COLOURS, (b"cICP", bytes([12, 13, 0, 1])), icc_profile=LCMS)
    assert is_near(load(tmp_path / "a.png"), shown(COLOURS, P3))
    png(tmp_path / "b.png", COLOURS, (b"gAMA", struct.pack(">I", 100000)), icc_profile=LCMS)
    assert np.array_equal(load(tmp_path / "b.png"), COLOURS)


@pytest.mark.parametrize("chunk", [(b"cICP", bytes([9, 16, 0, 1])), (b"cICP", bytes([9, 18, 0, 1])), (b"cICP", bytes([10, 13, 0, 1])),
                                   (b"cHRM", struct.pack(">8I", *[30000] * 8)), (b"cHRM", bytes(32))])  # fmt: skip
def test_colours_that_cannot_be_converted_are_reported_and_not_guessed(tmp_path, chunk, caplog):
    png(tmp_path / "a.png", COLOURS, chunk)
    image, facts = load_with_facts(tmp_path / "a.png")
    assert np.array_equal(image, COLOURS)
    assert [(f.check, f.severity) for f in facts_findings(tmp_path / "a.png", facts)] == [("profile", "warning")]
    assert load(tmp_path / "a.png") and "a.png" in caplog.text


SMOOTH = Image.fromarray(np.array([[[60, 60, 60], [200, 80, 70]], [[80, 180, 90], [70, 90, 190]]], np.uint8)).resize((96, 96))


def test_avif_and_heic_say_it_in_code_points(tmp_path):
    SMOOTH.save(tmp_path / "plain.avif", quality=100, subsampling="4:4:4")
    data = (tmp_path / "plain.avif").read_bytes()
    place = data.index(b"colrnclx") + 8
    (tmp_path / "p3.avif").write_bytes(data[:place] + struct.pack(">H", 12) + data[place + 2 :])
    assert is_near(load(tmp_path / "p3.avif"), shown(np.asarray(load(tmp_path / "plain.avif")), P3))
    heif = pytest.importorskip("pillow_heif", reason="dreambooth[photos] is not installed")
    for name, primaries in (("plain", 1), ("p3", 12)):
        heif.from_pillow(SMOOTH).save(tmp_path / f"{name}.heic", quality=100, color_primaries=primaries, transfer_characteristics=13)
    assert is_near(load(tmp_path / "p3.heic"), shown(np.asarray(load(tmp_path / "plain.heic")), P3), 4)


def test_a_cameras_mark_for_adobe_rgb_counts(tmp_path):
    for name, mark in (("adobe.jpg", "R03"), ("plain.jpg", "R98")):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA001] = 0xFFFF if mark == "R03" else 1
        exif.get_ifd(0x8769)[0xA005] = {1: mark}
        SMOOTH.save(tmp_path / name, quality=100, subsampling=0, exif=exif)
    plain = np.asarray(load(tmp_path / "plain.jpg"))
    assert is_near(load(tmp_path / "adobe.jpg"), shown(plain, ADOBE, 563 / 256))
    assert np.array_equal(plain, Image.open(tmp_path / "plain.jpg").convert("RGB"))
