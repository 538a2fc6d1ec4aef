"""The table of a batch: a row is a subject with its class, its photos and its own settings. One bad row is that row's trouble alone."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.bench.plan import BY_HAND, NOT_TO_SET
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shortened
from dreambooth.files.names import refuse_name
from dreambooth.files.table import read_table
from dreambooth.photos.files import scan
from dreambooth.schema import flags, nearest
from dreambooth.setup.given import config_type
from dreambooth.setup.trust import DEEDS, is_on

TABLE = "table"
OWN = ("subject", "class", "photos")
LONGEST = 100
"""Letters of a subject's name: a disk takes 255 bytes, and files get endings."""
REFUSED = frozenset(NOT_TO_SET - {"instance_prompt", "class_prompt", "seed", "concept"})
"""Flags of `dreambooth train` that the batch itself decides for every row."""


@dataclass(frozen=True)
class Product:
    """One row that can be done, as far as the table alone shows."""

    line: int
    subject: str
    noun: str
    photos: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its own flags of `dreambooth train`."""


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be done, and why."""

    line: int
    subject: str
    reason: str


def read_products(path: Path, given: Mapping[str, Any]) -> list[Product | BadRow]:
    """All rows in their order; `given` are the training flags of the command line, which alone may ask for deeds and code.

    Raises SettingError, before anything is done, for a table that cannot be read or has a column that is none.
    """
    if not path.is_file():
        raise SettingError(TABLE, f"there is no file {path}.", fix="Name a CSV with the columns subject, class, photos.")
    rows = [(line, {_column(name): cell for name, cell in cells.items()}) for line, cells in read_table(path, TABLE, needed=OWN[:2])]
    if not rows:
        raise SettingError(TABLE, f"{path} has no rows.", fix="Write a line for each subject: mug-blue,mug,photos/mug-blue")
    _refuse_columns(path, rows[0][1], given)
    names = Counter(_same(cells["subject"]) for _, cells in rows)
    return [_row(line, cells, path.absolute().parent, names, given) for line, cells in rows]


def _refuse_columns(path: Path, columns: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Raise SettingError for a column that is no flag of `dreambooth train`, or one that no table decides."""
    known = flags(config_type(given.get("method")))
    for name in columns:
        if name in OWN:
            continue
        if name not in known:
            fix = nearest(name, (*OWN, *known)) or "Columns are subject, class, photos and flags of `dreambooth train`."
            raise SettingError(TABLE, f"{path}: there is no column {shortened(repr(name))}.", fix=fix)
        if name in REFUSED:
            instead = {"instance_data_dir": "photos", "class_noun": "class"}.get(name)
            fix = f"Call the column {instead}." if instead else "Leave it out."
            raise SettingError(TABLE, f"{path}: the column {name} is for the batch itself to decide.", fix=fix)


def _row(line: int, cells: Mapping[str, str], folder: Path, names: Counter[str], given: Mapping[str, Any]) -> Product | BadRow:
    name = cells["subject"]
    try:
        _refuse_subject(name, names)
        if not cells["class"]:
            raise SettingError("class", "is empty.", fix="Say what it is: mug.")
        photos = folder / Path(cells.get("photos") or name).expanduser()
        photos = photos.resolve() if ".." in photos.parts else photos  # messages and files name the folder, not the way to it
        scan(str(photos))
        settings = {flag: cell for flag, cell in cells.items() if flag not in OWN and cell}
        _refuse_deeds(settings, given)
        return Product(line, name, cells["class"], photos, settings)
    except SettingError as error:
        return BadRow(line, name, str(error).replace("--instance_data_dir: ", "photos: ", 1))
    except (OSError, RuntimeError, ValueError) as error:
        return BadRow(line, name, f"photos: {shortened(repr(cells.get('photos', '')))} cannot be read ({error}).")


def _refuse_subject(name: str, names: Counter[str]) -> None:
    if not name:
        raise SettingError("subject", "is empty.", fix="Give each row a name.")
    refuse_name(name, "subject")
    if name.startswith(".") or len(name) > LONGEST:
        raise SettingError("subject", f"{shortened(repr(name))} begins with a dot, or has more than {LONGEST} letters.")
    if names[_same(name)] > 1:
        raise SettingError("subject", f"{name} stands in {names[_same(name)]} rows; none of them is done.", fix="Name them apart.")


def _same(name: str) -> str:
    """A name as disks compare it that ignore case and how accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def _refuse_deeds(settings: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Raise SettingError for what a table, which may be somebody else's, cannot say in the user's place."""
    for flag in BY_HAND:
        if is_on(settings.get(flag)) and not (flag in DEEDS and is_on(given.get(flag))):
            raise SettingError(flag, "a table cannot say that for you.", fix=f"Add --{flag} to the command if you want it.")
    method = settings.get("method")
    config_type(method, may_import=is_on(given.get("trust_code")) or method == given.get("method"))


def retry_settings(words: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a second try from NAME=VALUE; raises SettingError for another word and for what is no flag of `dreambooth train`."""
    known, found = flags(config_type(given.get("method"))), dict[str, str]()
    for word in words:
        name, is_there, value = word.removeprefix("--").partition("=")
        name = _column(name)
        if not (is_there and value):
            raise SettingError("--retry", f"{word!r} names no value.", fix="Example: --retry learning_rate=x0.5 max_train_steps=600")
        if name not in known or name in REFUSED:
            raise SettingError("--retry", f"{name!r} is nothing that a second try can set.", fix=nearest(name, known.keys() - REFUSED))
        found[name] = value
    return found


def changed_rows(before: list[Product | BadRow], after: list[Product | BadRow]) -> Iterator[str]:
    """Names of rows that are new or other ones than they were."""
    known = {row.subject: row for row in before}
    for row in after:
        was = known.get(row.subject)
        if was is None or _said(was) != _said(row):
            yield row.subject or f"line {row.line}"


def _said(row: Product | BadRow) -> object:
    """A row without its place in the table."""
    return (row.noun, row.photos, row.settings) if isinstance(row, Product) else row.reason


def _column(name: str) -> str:
    return name.replace("-", "_")
