"""Words for people and for shells: letters that cannot be printed are written out, commands can be pasted, sizes have their unit."""

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

HALF = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair: no letter, but how Python carries a byte of a file's name that is no UTF-8."""
QUOTING = "'\\"


def shown(text: str | Path) -> str:
    r"""A text or a path in one line: newlines, control characters and bytes of names that are no UTF-8 are written out (`\udce9`)."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def written_out(text: str) -> str:
    r"""A text as UTF-8 can hold it: bytes of names that are no UTF-8 are written out (`\udce9`), which JSON reads back as they were."""
    return HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def nearest(name: str, names: Iterable[str]) -> str:
    """A "did you mean" sentence for a name that does not exist, or nothing when no name is near."""
    close = difflib.get_close_matches(name[:100], list(names), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else ""


def alternatives(names: Sequence[str]) -> str:
    """Names to choose from, as a sentence lists them: lora, loha or lokr."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def counted(number: int, noun: str) -> str:
    """A number of things: 1 photo, 5 photos."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def shortened(text: str, limit: int = 120) -> str:
    """A text that may be anything, fit for the inside of a sentence."""
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def shell_words(*words: str | Path) -> str:
    """A command that can be pasted into a shell: `generate "my dog" "a [V] dog on the beach"`.

    A path that begins with a dash gets `./` before it, so that it is not taken for a flag.
    """
    return " ".join(_quoted(f".{os.sep}{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)) for word in words)


def from_here(path: Path) -> Path:
    """A folder as it is named from the working folder, where it lies in that: so that a command with it can be pasted there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) and path != Path.cwd() else path


def evaluate_command(run: Path) -> str:
    """The line that scores a run, ready to be pasted."""
    return shell_words("dreambooth", "evaluate", from_here(run))


def resume_command(run: Path) -> str:
    """The line that goes on with a run that was stopped, ready to be pasted."""
    return shell_words("dreambooth", "train", "--config", from_here(run) / "config.yaml", "--resume_from_checkpoint", "latest")


def size(count: int | float) -> str:
    """A number of bytes in the unit in which it is read best: 870 bytes, 16 KiB, 1.5 MiB, 94 MiB, 3.4 GiB."""
    power = next((power for power in range(3) if count < 1023.5 * 1024**power), 3)
    value = count / 1024**power
    number = f"{value:,.{int(power > 0 and value < 9.95)}f}".removesuffix(".0")
    return f"{number} {('byte' if number == '1' else 'bytes', 'KiB', 'MiB', 'GiB')[power]}"


def duration(seconds: float) -> str:
    """A time in the two units in which it is read best: 2 h 5 min, 3 min 20 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _quoted(word: str) -> str:
    """Double quotes, which all shells know, where they keep a word as it is; else what a POSIX shell needs."""
    if word and not re.search(r"[^\w@%+=:,./-]", word, re.ASCII):
        return word
    if not word.isprintable():  # bash, zsh and ksh write such letters out
        return f"$'{''.join(c if c.isprintable() and c not in QUOTING else _bytes(c) for c in word)}'"
    return f'"{word}"' if not re.search(r'["$`\\!]', word) else shlex.quote(word)


def _bytes(letter: str) -> str:
    kind = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", kind))
