"""Text files that people write (prompts, captions, lists, tables, YAML), read in one way whatever editor saved them.

Windows' editors put a byte order mark in front, spreadsheets save UTF-16, old programs a code page. A mark is no text and says what
follows it; without one the file is UTF-8; anything else is refused by name, for a guessed code page would put wrong letters into prompts.
"""

import codecs
import stat
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import size

MAX_TEXT_BYTES = 64 * 2**20
"""More than any list of prompts or answers; a bound on what one file can make us read."""
MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be",
}  # fmt: skip
"""Byte order marks; UTF-32's stand before UTF-16's, which they begin with."""


def read_text(path: Path, setting: str) -> str:
    """A text file's contents, without its byte order mark and with every line end as one newline.

    Raises SettingError that names `setting`, the file and the fix: for one that is missing, no ordinary file (a pipe would hang), not to
    be read, larger than 64 MiB, or no text in UTF-8 (or, with a byte order mark, UTF-16 or UTF-32).
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SettingError(setting, f"{path} is a folder, not a file.", fix="Name the file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise SettingError(setting, f"{path} is not an ordinary file.", fix="Save what it holds as a file.")
        if status.st_size > MAX_TEXT_BYTES:
            raise SettingError(setting, f"{path} is too large: at most {size(MAX_TEXT_BYTES)} of text are read.", fix="Split it.")
        data = path.read_bytes()
    except FileNotFoundError:
        raise SettingError(setting, f"{path} does not exist.", fix="Check the name.") from None
    except SettingError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(setting, f"{path} cannot be read ({reason}).", fix="Check its name and its permissions.") from None
    try:
        return as_text(data)
    except ValueError as error:
        raise SettingError(setting, f"{path} {error}.", fix="Save it again as UTF-8.") from None


def as_text(data: bytes) -> str:
    """A text file's bytes as text, as `read_text` gives it; raises ValueError with the end of a sentence that begins with the file."""
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: len(mark) + error.start].decode(encoding, "ignore").count("\n") + 1
        raise ValueError(f"is not text in {encoding.removesuffix('-le').removesuffix('-be').upper()} (line {line})") from None
    if "\0" in text:
        raise ValueError("is no plain text: it holds zero bytes, as UTF-16 without a byte order mark does")
    return text.replace("\r\n", "\n").replace("\r", "\n")
