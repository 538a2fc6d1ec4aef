"""`dreambooth photos check` and `dreambooth photos prepare`."""

from collections.abc import Sequence

from dreambooth.cli.parse import Alias, help_text, read_flags
from dreambooth.core.errors import SettingError
from dreambooth.photos.check import PhotosCheck, check
from dreambooth.photos.prepare import PhotosPrepare, prepare

JSON = {"json": Alias("as_json", True)}
HELP = """Usage: dreambooth photos check DIR      look at a folder of photos as training would
       dreambooth photos prepare DIR OUT  write square, upright, clean copies for training

Each has its own --help."""


def main(argv: Sequence[str]) -> int:
    """Check or prepare; a check ends with 1 when there are findings that must be mended."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in ("check", "prepare"):
        raise SettingError(f"photos {verb}", "there is no such command; there are check and prepare.")
    return (_check if verb == "check" else _prepare)(rest)


def _check(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        usage = "dreambooth photos check DIR [--resolution 512] [--concept object|style] [--sheet SHEET.png] [--json]"
        print(help_text(PhotosCheck, usage=usage, intro=PhotosCheck.__doc__ or "", hidden=("as_json",)))
        print("  --json\n        Print a JSON list of findings: file, check, severity, value, reason, fix.")
        return 0
    settings = PhotosCheck.parse(read_flags(argv, PhotosCheck, aliases=JSON)[0])
    report = check(settings)
    print(report.to_json() if settings.as_json else report.table())
    if settings.sheet and not settings.as_json:
        print(f"Contact sheet: {settings.sheet}")
    return report.exit_code


def _prepare(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        usage = "dreambooth photos prepare DIR OUT [--resolution 512] [--crop subject|centre|none] ..."
        print(help_text(PhotosPrepare, usage=usage, intro=PhotosPrepare.__doc__ or ""))
        return 0
    report = prepare(PhotosPrepare.parse(read_flags(argv, PhotosPrepare)[0]))
    written = sum(photo.written for photo in report.photos)
    print(f"{len(report.photos)} photos in {report.out} ({written} written, {len(report.photos) - written} were there already)")
    for path, reason in report.left_out:
        print(f"left out: {path.name!r}: {reason}")
    print(f"Preview of every crop: {report.preview}")
    return 0
