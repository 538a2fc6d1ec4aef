"""`sign`: copies of drawn pictures with Content Credentials (C2PA): a signed statement, inside the file, that a model drew it, and which.

Specification: https://spec.c2pa.org, version 2: an action `c2pa.created` whose `digitalSourceType` is IPTC's `trainedAlgorithmicMedia`.
"""

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import dreambooth
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.files.atomic import whole_file
from dreambooth.files.folders import expanded, is_inside, refuse_unwritable
from dreambooth.files.images import is_whole_png, read_settings
from dreambooth.schema import BASIC, Setting
from dreambooth.training.records import Message, Progress

if TYPE_CHECKING:
    import c2pa

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PASSWORD = "DREAMBOOTH_KEY_PASSWORD"
"""Environment variable with the password of an encrypted key: command lines are seen by everybody on a machine."""
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
PNG = "image/png"
BESIDE = "signed"
DRAW = 'Draw some: dreambooth generate RUN "a [V] dog".'
ACCEPTED = ("Valid", "Trusted")
"""What the library says of a file whose bytes are as they were signed; the latter where it knows the certificate's authority."""


class SignConfig(Setting):
    """Copies of pictures that dreambooth drew, signed with your certificate (Content Credentials, C2PA)."""

    positional = ("pictures",)

    pictures: Annotated[tuple[str, ...], BASIC]
    """PNG files, or folders of them with all folders below; what dreambooth did not draw is left out."""
    certificate: Annotated[str, BASIC]
    """Your certificate and those of its authorities, one after the other, in PEM."""
    private_key: Annotated[str, BASIC]
    """The certificate's private key in PEM; the password of an encrypted one stands in $DREAMBOOTH_KEY_PASSWORD."""
    output_dir: Annotated[str | None, BASIC] = None
    """Folder of the signed copies; automatic: the folder `signed` beside each picture. Copies that are there are kept."""
    timestamp_authority: str | None = None
    """Address of a time-stamping authority (RFC 3161): its stamp keeps a signature valid after the certificate has run out."""


@dataclass(frozen=True)
class Signed:
    """What was written."""

    paths: tuple[Path, ...]


def sign(config: SignConfig) -> Iterator[Message | Progress | Signed]:
    """Sign a copy of every picture and read it back; the last record is `Signed`.

    Raises SettingError for a certificate, key or folder that will not do, before anything is written, RunError where a copy cannot be read.
    """
    _library()
    wanted = _wanted(config)
    signer = _signer(config)
    drawn = {path: settings for path in wanted if (settings := read_settings(path)).get("prompt") is not None and is_whole_png(path)}
    if not drawn:
        fix = "Only a picture that carries its settings can be signed: nobody else knows how it was made."
        raise SettingError("pictures", f"none of the {len(wanted)} PNG files there was drawn by dreambooth, and is whole.", fix=fix)
    if others := len(wanted) - len(drawn):
        yield Message(f"{others} of {len(wanted)} PNG files were not drawn by dreambooth, or are damaged; they are not signed.")
    targets = _targets(config, list(drawn))
    if there := [target for target in targets.values() if target.exists()]:
        yield Message(f"{len(there)} signed copies are there already.")
    for number, (path, target) in enumerate(targets.items(), 1):
        if not target.exists():
            signed = signed_copy(path.read_bytes(), drawn[path], signer, title=path.name)
            with whole_file(target) as partial:
                partial.write_bytes(signed)
        yield Progress("signing", number, len(targets))
    yield Signed(tuple(targets.values()))


def signed_copy(data: bytes, settings: dict[str, Any], signer: "c2pa.Signer", *, title: str) -> bytes:
    """A PNG with the same pixels and settings, and a signed statement about how it was made; RunError where it cannot be verified."""
    import c2pa

    agent = {"name": "dreambooth", "version": dreambooth.__version__}
    how = {name: settings[name] for name in ("model", "weights", "seed") if settings.get(name) is not None}
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE, "softwareAgent": agent, "parameters": how}
    statement = {
        "claim_generator_info": [agent], "title": title, "format": PNG,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }  # fmt: skip
    signed = io.BytesIO()
    plain = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})  # a PNG is its own thumbnail
    try:
        with c2pa.Context(plain) as context, c2pa.Builder(json.dumps(statement), context) as builder:
            builder.sign(signer, PNG, io.BytesIO(data), signed)
        with c2pa.Reader(PNG, io.BytesIO(signed.getvalue())) as reader:
            state = reader.get_validation_state()
    except c2pa.C2paError as error:
        raise _refused(error) from None
    if state not in ACCEPTED:
        raise RunError(f"{title}: the signed copy does not verify ({state}), and was not kept.")
    return signed.getvalue()


def _wanted(config: SignConfig) -> list[Path]:
    """All PNG files that the settings name, each once; signed copies of before are none of them."""
    found, copies = dict[Path, None](), _folder(config)
    for name in config.pictures:
        path = expanded(name, "pictures")
        if not path.exists():
            raise SettingError("pictures", f"there is no {path}.", fix=DRAW)
        inside = sorted(path.rglob("*.png")) if path.is_dir() else [path]
        found |= dict.fromkeys(file for file in inside if not (file.parent.name == BESIDE or (copies and is_inside(file, copies))))
    if not found:
        raise SettingError(
            "pictures", f"{', '.join(config.pictures)} holds no PNG file.", fix='Draw some: dreambooth generate RUN "a [V] dog".'
        )
    return list(found)


def _folder(config: SignConfig) -> Path | None:
    """Where all copies go, where one place was named."""
    return expanded(config.output_dir, "--output_dir") if config.output_dir else None


def _targets(config: SignConfig, pictures: Sequence[Path]) -> dict[Path, Path]:
    """Where the copy of each goes; SettingError where two would be one file, or a folder cannot be written."""
    folder = _folder(config)
    targets = {path: (folder or path.parent / BESIDE) / path.name for path in pictures}
    if len(set(targets.values())) < len(targets):
        raise SettingError(
            "--output_dir", "two pictures of one name would be one file there.", fix="Leave it out: copies lie beside pictures."
        )
    for place in {target.parent for target in targets.values()}:
        refuse_unwritable(place, "--output_dir")
    return targets


def _signer(config: SignConfig) -> "c2pa.Signer":
    """A signer of the certificate's own kind of key. Raises SettingError for files that are none, and for a key of another certificate."""
    import c2pa
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    chain, key = _read(config.certificate, "--certificate"), _key(config)
    try:
        own = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise SettingError("--certificate", f"{config.certificate} holds no certificate in PEM.") from None
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        fix = "The certificate of the key comes first in the file, its authorities' after it."
        raise SettingError("--private_key", f"it is not the key of {config.certificate}.", fix=fix)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    address = config.timestamp_authority
    try:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(key), chain, plain, address and address.encode()))
    except c2pa.C2paError as error:
        raise _refused(error) from None


def _key(config: SignConfig) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD)
    try:
        return load_pem_private_key(_read(config.private_key, "--private_key"), password.encode() if password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        wrong = "with this password" if password else "without a password"
        fix = f"An encrypted key's password stands in ${PASSWORD}."
        raise SettingError("--private_key", f"{config.private_key} holds no private key in PEM that opens {wrong}.", fix=fix) from None


def _algorithm(key: Any) -> bytes:
    """What C2PA calls signing with a key of this kind."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name].encode()
    if isinstance(key, Ed25519PrivateKey):
        return b"Ed25519"
    if isinstance(key, RSAPrivateKey) and key.key_size >= 2048:
        return b"PS256"
    fix = "C2PA knows keys on the curves P-256, P-384 and P-521, Ed25519, and RSA of 2048 bits and more."
    raise SettingError("--private_key", "a key of this kind cannot sign.", fix=fix)


def _read(name: str, setting: str) -> bytes:
    try:
        return expanded(name, setting).read_bytes()
    except OSError as error:
        raise SettingError(setting, f"{name} cannot be read ({error.strerror}).") from None


def _library() -> None:
    """Raises SettingError where the package that signs is not installed."""
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except ImportError:
        raise SettingError("sign", "signing needs one more package.", fix='pip install "dreambooth[provenance]"') from None


def _refused(error: Exception) -> SettingError:
    """The library's reason for not signing: a certificate that has run out, or that nobody may sign pictures with."""
    fix = "It has to be one for signing, not an authority's, and valid today: docs/responsible-use.md says how to get one."
    return SettingError("--certificate", f"the pictures cannot be signed with it ({first_line(error)}).", fix=fix)
