"""Signed copies of drawn pictures: read back by the C2PA library, refused where a certificate or a picture will not do."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

c2pa = pytest.importorskip("c2pa")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat  # noqa: E402

from dreambooth.cli import main  # noqa: E402
from dreambooth.core.errors import SettingError  # noqa: E402
from dreambooth.files.images import read_settings, save_png  # noqa: E402
from dreambooth.run.sign import SignConfig, sign  # noqa: E402

KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()), "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate, "RSA": lambda: rsa.generate_private_key(65537, 2048),
}  # fmt: skip
OTHER_USES = (
    "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
SETTINGS = {"prompt": "a sks dog on the beach", "seed": 3, "model": "toybox", "weights": "abcd", "sampler": "ddim"}


def certificate(key, issuer=None, *, days=30, is_authority=False):
    """A certificate of a key, signed by `issuer` (name, key), or by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Trial"), x509.NameAttribute(x509.NameOID.COMMON_NAME, "Me")])
    by, signing = issuer or (name, key)
    start = datetime.now(UTC) - timedelta(days=60)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(by).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(start + timedelta(days=60 + days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, **usage), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )  # fmt: skip
    if not is_authority:
        built = built.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return built.sign(signing, None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def written(folder, key, *, days=30, is_authority=False, password=None):
    """Files of a certificate with its authority's, and of its key, as flags."""
    above = KEYS["P-256"]()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Trial authority")])
    top = certificate(above, (name, above), is_authority=True)
    own = certificate(key, None if is_authority else (name, above), days=days, is_authority=is_authority)
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(own.public_bytes(Encoding.PEM) + (b"" if is_authority else top.public_bytes(Encoding.PEM)))
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    return {"certificate": str(chain), "private_key": str(secret)}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "generated"
    for seed in (3, 4):
        save_png(folder / f"0-{seed}.png", Image.effect_noise((48, 48), 60).convert("RGB"), {**SETTINGS, "seed": seed})
    return folder


def signed(pictures, **settings):
    return list(sign(SignConfig.parse({"pictures": [str(pictures)], **settings})))[-1].paths


@pytest.mark.parametrize("kind", KEYS)
def test_a_signed_copy_verifies_and_says_which_model_drew_it_with_the_same_pixels_and_settings(kind, pictures, tmp_path):
    paths = signed(pictures, **written(tmp_path, KEYS[kind]()))
    assert [path.relative_to(pictures).as_posix() for path in paths] == ["signed/0-3.png", "signed/0-4.png"]
    for path in paths:
        before = pictures / path.name
        assert Image.open(path).tobytes() == Image.open(before).tobytes() and read_settings(path) == read_settings(before)
        with c2pa.Reader(path) as reader:
            assert reader.get_validation_state() == "Valid"
            statement = json.loads(reader.json())
        manifest = statement["manifests"][statement["active_manifest"]]
        [action] = manifest["assertions"][0]["data"]["actions"]
        assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
        assert action["softwareAgent"]["name"] == "dreambooth" and action["parameters"]["model"] == "toybox"


def test_a_pixel_that_is_changed_after_signing_breaks_the_signature(pictures, tmp_path):
    path = signed(pictures, **written(tmp_path, KEYS["P-256"]()))[0]
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    (tmp_path / "changed.png").write_bytes(data)
    with c2pa.Reader(tmp_path / "changed.png") as reader:
        assert reader.get_validation_state() == "Invalid"


def test_copies_that_are_there_are_kept_and_are_not_signed_again(pictures, tmp_path):
    flags = written(tmp_path, KEYS["P-256"]())
    before = {path: path.read_bytes() for path in signed(pictures, **flags)}
    assert {path: path.read_bytes() for path in signed(pictures, **flags)} == before
    assert len(signed(pictures, **flags, output_dir=str(tmp_path / "elsewhere"))) == 2


def test_an_encrypted_key_opens_with_the_password_of_the_environment_and_not_without(pictures, tmp_path, monkeypatch):
    flags = written(tmp_path, KEYS["P-256"](), password=b"secret words")
    with pytest.raises(SettingError, match="DREAMBOOTH_KEY_PASSWORD"):
        signed(pictures, **flags)
    monkeypatch.setenv("DREAMBOOTH_KEY_PASSWORD", "secret words")
    assert len(signed(pictures, **flags)) == 2


def _other_key(folder):
    flags = written(folder, KEYS["P-256"]())
    (folder / "other").mkdir()
    return {**flags, "private_key": written(folder / "other", KEYS["P-256"]())["private_key"]}


def _text(folder):
    flags = written(folder, KEYS["P-256"]())
    Path(flags["certificate"]).write_text("no certificate")
    return flags


REFUSED = {
    "an authority's own certificate": ("--certificate", lambda folder: written(folder, KEYS["P-256"](), is_authority=True)),
    "a certificate that has run out": ("--certificate", lambda folder: written(folder, KEYS["P-256"](), days=-30)),
    "a key of a curve that C2PA does not know": ("--private_key", lambda folder: written(folder, ec.generate_private_key(ec.SECP256K1()))),
    "another certificate's key": ("--private_key", _other_key),
    "no certificate": ("--certificate", _text),
    "no key": ("--private_key", lambda folder: written(folder, KEYS["P-256"]()) | {"private_key": str(folder / "none.pem")}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_sign_is_refused_before_a_copy_is_written(case, pictures, tmp_path):
    setting, flags = REFUSED[case]
    with pytest.raises(SettingError) as refused:
        signed(pictures, **flags(tmp_path))
    assert refused.value.setting == setting and not list(pictures.rglob("signed/*"))


def test_pictures_of_other_programs_are_not_signed_and_a_folder_of_nothing_else_is_refused(pictures, tmp_path, capsys):
    flags = written(tmp_path, KEYS["P-256"]())
    words = ["--certificate", flags["certificate"], "--private_key", flags["private_key"]]
    Image.new("RGB", (8, 8)).save(pictures / "drawn by hand.png")
    (pictures / "half.png").write_bytes((pictures / "0-3.png").read_bytes()[:200])
    assert main(["sign", str(pictures), *words]) == 0
    assert sorted(path.name for path in pictures.rglob("signed/*")) == ["0-3.png", "0-4.png"]
    assert main(["sign", str(pictures / "drawn by hand.png"), *words]) == 2
    assert main(["sign", str(tmp_path / "nowhere"), *words]) == 2


def test_two_pictures_of_one_name_are_not_written_over_each_other(pictures, tmp_path):
    save_png(tmp_path / "more" / "0-3.png", Image.new("RGB", (8, 8)), SETTINGS)
    flags = written(tmp_path, KEYS["P-256"]())
    with pytest.raises(SettingError, match="--output_dir"):
        list(sign(SignConfig.parse({"pictures": [str(pictures), str(tmp_path / "more")], **flags, "output_dir": str(tmp_path / "new")})))
