"""A command at the end of a run: a desktop notice, a message, a lamp. It is the user's own, and never read from a file."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown
from dreambooth.setup.record import status

PATIENCE = 60
"""Seconds that the command may take."""


@contextmanager
def notifying(command: str | None, run: Path) -> Iterator[None]:
    """A block after which a command runs once, however the run in it has ended; not after a request that was refused.

    Raises SettingError, before the block, for a command that is not there. One that fails later is reported, and changes nothing.
    """
    words = _words(command) if command is not None else []
    try:
        yield
    except SettingError:
        words = []
        raise
    finally:
        if words and os.environ.get("RANK", "0") == "0":
            _run(words, run)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command, posix=os.name != "nt")
    except ValueError as error:
        raise SettingError("--notify", f"{shown(command)}: {error}.", fix="Quote it as a shell would read it.") from None
    if not words or shutil.which(words[0]) is None:
        what = f"there is no program {shown(words[0])}." if words else "a command is missing."
        raise SettingError("--notify", what, fix="Give one that can be run: --notify 'notify-send dreambooth'.")
    return words


def _run(words: list[str], run: Path) -> None:
    try:
        ended = status(run)
        state, cause = str(ended.state), ended.cause
    except SettingError as error:  # a damaged record: how it ended is not known
        state, cause = "unknown", str(error)
    own = {"DREAMBOOTH_RUN": str(run.absolute()), "DREAMBOOTH_STATE": state, "DREAMBOOTH_CAUSE": cause}
    try:
        code = subprocess.run(words, env={**os.environ, **own}, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False).returncode
        wrong = f"ended with exit code {code}" if code else ""
    except (OSError, ValueError) as error:
        wrong = f"could not be run ({error})"
    except subprocess.TimeoutExpired:
        wrong = f"took more than {PATIENCE} s"
    if wrong:
        print(f"--notify: {shown(words[0])} {wrong}.", flush=True)
