"""What can go wrong, said to the person who can mend it; each kind carries the exit code of the command line."""

import re

from dreambooth.core.wording import shortened

LETTERS = 700
"""Of each part of what is said: a value that is named in it may be a whole file."""
SECRETS = re.compile(r"\bhf_[A-Za-z0-9]{20,}|(?<=://)[^/\s@]+(?=@)")
"""Tokens of the Hub, and names with passwords in addresses: libraries say them back in their errors, and errors end up in logs."""


def redacted(text: str) -> str:
    """The text without secrets."""
    return SECRETS.sub("***", text)


class DreamboothError(Exception):
    """Base of every error raised on purpose. Its text is complete: what happened, and what to do about it; secrets are left out."""

    exit_code = 1

    def __init__(self, text: str = ""):
        super().__init__(redacted(text))


class SettingError(DreamboothError, ValueError):
    """What was asked for cannot be done: names the setting, what was given, the reason and the fix."""

    exit_code = 2

    def __init__(self, setting: str, reason: str, *, fix: str = ""):
        setting, reason, fix = map(redacted, (setting, reason, fix))  # before anything is cut off: half a secret is known by no sign
        setting, reason, fix = shortened(setting, LETTERS // 2), shortened(reason, LETTERS), shortened(fix, LETTERS // 2)
        self.setting, self.reason, self.fix = setting, reason, fix
        text = f"{setting}: {reason}" if setting else reason
        super().__init__(f"{text} {fix}".rstrip() if fix else text)


class RunError(DreamboothError):
    """A run that was asked for rightly has failed: memory, disk, numbers that are no longer finite."""


def first_line(error: BaseException) -> str:
    """What a library said, without the rest of its essay: fit for the inside of a sentence of ours."""
    return redacted((str(error).strip() or type(error).__name__).split("\n")[0].rstrip("."))


class Interrupted(DreamboothError):
    """Stopped by a signal, after the state was saved; the text says how to go on."""

    exit_code = 130
