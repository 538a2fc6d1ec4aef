"""The command line: flags in, records out. Nothing heavy is imported before a command is chosen."""

import io
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "train": "photos -> personal model (with pictures and checkpoints)",
    "generate": 'RUN "a [V] dog on the beach" -> pictures',
    "evaluate": "RUN -> scores (DINO, CLIP-I, CLIP-T, PRES, DIV), contact sheet, report",
    "export": "RUN -> a file for ComfyUI, A1111, kohya's tools or diffusers, read back and compared",
    "sign": "PICTURES -> copies with Content Credentials (C2PA), signed with your certificate",
    "runs": "list / show / compare / remove runs, and steer one that is training",
    "cache": "list / prune what is kept for all runs: class images, digests, base models",
    "batch": "TABLE.csv -> one personal model for each row, with a rule of acceptance",
    "bench": "many subjects x methods x seeds -> the paper's tables",
    "study": "blinded questionnaires from two runs or arms, and the table from the answers",
    "photos": "check / prepare / caption a folder of photos",
    "plan": "MODEL -> the memory that a training needs, before anything is downloaded",
    "models": "base models by short name: licence, gate, size, recipe",
    "encoders": "get DINO, CLIP and LPIPS, with which pictures are scored",
    "doctor": "what this machine has, and what is missing for what",
    "identifier": "rank rare tokens of a model's tokenizers",
    "ui": "the same in a browser: photos dropped, runs watched, pictures drawn, files exported",
    "demo": "the whole story on the embedded toybox, offline, in minutes",
    "toybox": "render / pretrain / verify the embedded world",
}
"""What there is, in the order in which people need it; each is a module of this package with `main(argv) -> int`."""

HELP = """dreambooth: a text-to-image model that knows your dog, mug, shoe or painting style, from 3-5 photos.

Usage: dreambooth COMMAND ...

{commands}

  dreambooth COMMAND --help    what a command takes, with defaults and examples
  dreambooth --version

Start here:
  dreambooth train --instance_data_dir photos --class_noun dog --pretrained_model_name_or_path MODEL --output_dir my-dog
  dreambooth generate my-dog "a [V] dog on the beach"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong request, 3 some jobs failed, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    _quiet()
    _spell_out()
    return _guarded([word for word in words if word != "--debug"], debug="--debug" in words)


def _command(argv: list[str]) -> int:
    """Do what the words say."""
    if argv[:1] == ["help"] and argv[1:2] and argv[1] in COMMANDS:
        argv = [argv[1], "--help", *argv[2:]]
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())))
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"dreambooth {import_module('dreambooth').__version__}")
        return 0
    if argv[0] not in COMMANDS:
        return _unknown(argv[0])
    return import_module(f"dreambooth.cli.{argv[0]}").main(argv[1:])


def _guarded(argv: list[str], *, debug: bool) -> int:
    """Run a command; what was raised on purpose becomes a sentence and an exit code, a traceback comes with --debug only."""
    from dreambooth.core.errors import DreamboothError

    if not debug:
        threading.excepthook = _thread_died
    try:
        code = _command(argv)
        sys.stdout.flush()  # what Python cannot write when it ends, it can only complain about
        return code
    except KeyboardInterrupt:
        _complain("\ndreambooth: stopped.")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except DreamboothError as error:
        if debug:
            raise
        _complain(f"dreambooth: {error}")
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        from dreambooth.core.errors import redacted
        from dreambooth.files.disk import in_words

        kind = type(error).__name__
        fault = f"unexpected {kind}: {redacted(str(error))}\nThis is a fault of dreambooth; add --debug to see where."
        _complain(f"dreambooth: {in_words(error, _unwritten(error)) or fault}")
        return 1


def _complain(text: str) -> None:
    """A message on standard error; where that cannot be written either (a log on a full disk), the exit code alone says it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """A line about a library's thread; none where a disk has failed, for whoever waits for the thread reports it."""
    from dreambooth.core.errors import redacted
    from dreambooth.files.disk import in_words

    if died.exc_value and not in_words(died.exc_value):
        _complain(f"dreambooth: {died.exc_type.__name__} in a thread: {redacted(str(died.exc_value))} (--debug shows where.)")


def _unwritten(error: Exception) -> Path | None:
    """What the system does not name, where it is the output of this command that cannot be written: to a file on a full disk, say."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    try:
        place = sys.stdout.fileno()
    except (OSError, AttributeError):
        return None  # no file of the system's
    try:
        os.write(place, b"\n")
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), place)  # what is left of it is not tried again at the end
        return Path("the output of this command")
    return None


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    close = get_close_matches(word, COMMANDS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    _complain(f"dreambooth: there is no command {word!r}.{hint} There are {', '.join(COMMANDS)}.")
    return 2


def _spell_out() -> None:
    """What standard output cannot print (a redirect on Windows has 256 letters) is written out, where Python would end the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _quiet() -> None:
    """Libraries say nothing below an error unless the environment asks them to."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
