"""Where an export goes: a name that every system takes, in a place where nothing is lost."""

from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.files.folders import Place, expanded, is_inside, refuse_mixing, refuse_unwritable
from dreambooth.files.names import plain, refuse_name
from dreambooth.formats.base import Format
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.open import own_place
from dreambooth.setup.roles import models, read_by

SETTING = "--output"
EXPORTS = "export"
"""The folder of a run that exports go into."""


def target(output: str | None, format: Format, run: Path | None, path: Path, config: TrainConfig | None, *, overwrite: bool) -> Path:
    """The file or folder that is to be written; nothing is made.

    Raises SettingError for one that is there already, unless `overwrite` and it is an export, for a name that Windows cannot keep, and for
    a place below photos, class images or a base model.
    """
    own = format.stem(config.method.new_word if config else None)
    name = f"{plain(own) if own else safe_name(run, path)}{format.suffix}"
    if output is None:
        out = (own_place(run, EXPORTS, format.name) if run else Path()) / name
    else:
        out = expanded(output, SETTING)
        out = out / name if format.suffix and out.is_dir() else out
    _refuse_name(out, format)
    _refuse_existing(out, format, overwrite=overwrite)
    place = Place(SETTING, out.parent if format.suffix else out, "output", content="run")
    for other in (*models(config.model), *read_by(config)) if config else ():
        refuse_mixing([other, place])
    if run and not format.suffix and is_inside(run, out):
        raise SettingError(SETTING, f"{out} is the run's own folder, or holds it.", fix="Choose another folder.")
    refuse_unwritable(out.parent, SETTING)
    return out


def safe_name(run: Path | None, path: Path) -> str:
    """The run's name, of a checkpoint with its step, as every system takes it."""
    own = (run or path).resolve().name
    step = f"-{path.name.removeprefix('checkpoint-')}" if run and path != run else ""
    return plain(f"{own}{step}")


def record_place(run: Path, path: Path, format: str) -> Path:
    """Where a run keeps what it knows of an export; a checkpoint's apart."""
    step = f"-{path.name.removeprefix('checkpoint-')}" if path != run else ""
    return own_place(run, EXPORTS) / f"{format}{step}.json"


def _refuse_name(out: Path, format: Format) -> None:
    refuse_name(out.name, SETTING)
    if format.suffix and out.suffix != format.suffix:
        raise SettingError(SETTING, f"{out.name} does not end in {format.suffix}.", fix=f"Call it {out.stem or 'model'}{format.suffix}.")


def _refuse_existing(out: Path, format: Format, *, overwrite: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise SettingError(SETTING, f"{out} is there already; it stays as it is.", fix="Choose another name, or add --overwrite.")
    is_own = out.is_file() if format.suffix else (out / format.mark).is_file() and not (out / "run.json").exists()
    if out.is_symlink() or not is_own:
        what = "no file" if format.suffix else f"no exported {format.name}"
        raise SettingError(SETTING, f"{out} is {what}, so --overwrite does not replace it.", fix="Choose another name.")
