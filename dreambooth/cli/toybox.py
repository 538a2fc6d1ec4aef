"""`dreambooth toybox`: render, pretrain and verify the embedded world and its models."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dreambooth.cli.parse import subcommand
from dreambooth.core.errors import SettingError

HELP = """Usage: dreambooth toybox subjects [OUT]       all held-out subjects' photos on one sheet (toybox.png)
       dreambooth toybox render [...]         pictures to pretrain on
       dreambooth toybox pretrain STAGE [...] one stage (render, vae, decoder, latents, clip, instance, judge, perceptual, unet)
       dreambooth toybox verify [FOLDER]      how good the embedded models are

The recipe, with what was tried, is in dreambooth/toybox/RECIPE.md."""


def main(argv: Sequence[str]) -> int:
    """Hand over to the verb."""
    commands = {"subjects": _subjects, "render": _render, "pretrain": _pretrain, "verify": _verify}
    return subcommand("toybox", argv, commands, usage=HELP)


def _render(argv: Sequence[str]) -> int:
    return _pretrain(["render", *argv])


def _pretrain(argv: Sequence[str]) -> int:
    from dreambooth.toybox.pretrain.__main__ import main as pretrain

    return _hand_over(pretrain, argv)


def _verify(argv: Sequence[str]) -> int:
    from dreambooth.toybox.verify import main as verify

    return _hand_over(verify, argv)


def _hand_over(command: Callable[[], object], argv: Sequence[str]) -> int:
    """Run a module's own command line."""
    sys.argv = ["dreambooth toybox", *argv]
    try:
        command()
    except SystemExit as done:  # argparse: 0 for its help, 2 for a wrong word
        return int(done.code or 0)
    return 0


def _subjects(words: Sequence[str]) -> int:
    if any(word in ("-h", "--help") for word in words):
        print(HELP)
        return 0
    if len(words) > 1 or any(word.startswith("-") for word in words):
        fix = "Give one file name for the sheet, or none."
        raise SettingError("toybox subjects", f"{' '.join(words)!r} is more than it takes.", fix=fix)
    path = Path(words[0] if words else "toybox.png")

    from PIL import Image

    from dreambooth.files.images import write_sheet
    from dreambooth.toybox.world import held_out_subjects, render_photos

    rows = [(subject.name, [Image.fromarray(pixels) for pixels in render_photos(subject, 128)]) for subject in held_out_subjects()]
    write_sheet(path, rows, title="toybox: the held-out subjects", footer="")
    print(f"{len(rows)} subjects: {path}")
    return 0
