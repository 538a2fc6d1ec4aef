"""`dreambooth photos check`, `dreambooth photos prepare` and `dreambooth photos caption`."""

from collections.abc import Sequence

from dreambooth.cli.parse import Alias, settings_from, subcommand
from dreambooth.core.wording import shown
from dreambooth.photos.check import PhotosCheck, check
from dreambooth.photos.prepare import PhotosPrepare, prepare
from dreambooth.run.captioning import PhotosCaption, caption
from dreambooth.setup.model import silence_libraries

HELP = """Usage: dreambooth photos check DIR      check a folder of photos as training would
       dreambooth photos prepare DIR OUT  write square, upright, clean copies for training
       dreambooth photos caption DIR      write a caption beside each photo that has none

Each has its own --help."""
CHECK = "dreambooth photos check DIR [--resolution 512] [--concept object|style] [--sheet SHEET.png] [--json]"
CAPTION = "dreambooth photos caption DIR --model FOLDER --class_noun dog [--dry_run]"
PREPARE = "dreambooth photos prepare DIR OUT [--resolution 512] [--crop subject] ..."


def main(argv: Sequence[str]) -> int:
    """Check, prepare or caption; a check ends with 1 when there are findings that must be fixed."""
    return subcommand("photos", argv, {"check": _check, "prepare": _prepare, "caption": _caption}, usage=HELP)


def _check(argv: Sequence[str]) -> int:
    settings = settings_from(argv, PhotosCheck, usage=CHECK, aliases={"json": Alias("as_json", True)})
    if settings is None:
        return 0
    report = check(settings)
    print(report.to_json() if settings.as_json else report.table())
    if settings.sheet and not settings.as_json:
        print(f"Contact sheet: {settings.sheet}")
    return report.exit_code


def _prepare(argv: Sequence[str]) -> int:
    settings = settings_from(argv, PhotosPrepare, usage=PREPARE)
    if settings:
        report = prepare(settings)
        written = sum(photo.written for photo in report.photos)
        print(f"{len(report.photos)} photos in {report.out} ({written} written, {len(report.photos) - written} were there already)")
        for name in report.edited:
            print(f"{name!r} stays as it is: it was changed since it was written")
        for path, reason in report.left_out:
            print(f"left out: {path.name!r}: {reason}")
        print(f"Preview of every crop: {report.preview}")
    return 0


def _caption(argv: Sequence[str]) -> int:
    settings = settings_from(argv, PhotosCaption, usage=CAPTION)
    if settings:
        silence_libraries()
        kept = 0
        for one in caption(settings):
            kept += one.text is None
            if one.text is not None:
                print(f"{shown(one.photo.name)}: {shown(one.text)}", flush=True)
        if kept:
            print(f"{kept} photos have a caption already, which stays.")
        if settings.dry_run:
            print("Nothing is written.")
    return 0
