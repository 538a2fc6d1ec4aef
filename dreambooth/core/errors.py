"""What can go wrong, told to the person who can mend it; each kind carries the exit code of the command line."""

from dreambooth.core.wording import shortened

LETTERS = 700
"""Of each part of what is said: a value that is named in it may be a whole file."""


class DreamboothError(Exception):
    """Base of every error raised on purpose. Its text is complete: what happened, and what to do about it."""

    exit_code = 1


class SettingError(DreamboothError, ValueError):
    """What was asked for cannot be done: names the setting, what was given, the reason and the fix."""

    exit_code = 2

    def __init__(self, setting: str, reason: str, *, fix: str = ""):
        setting, reason, fix = shortened(setting, LETTERS // 2), shortened(reason, LETTERS), shortened(fix, LETTERS // 2)
        self.setting, self.reason, self.fix = setting, reason, fix
        text = f"{setting}: {reason}" if setting else reason
        super().__init__(f"{text} {fix}".rstrip() if fix else text)


class RunError(DreamboothError):
    """A run that was asked for rightly has failed: memory, disk, numbers that are no longer finite."""


def first_line(error: BaseException) -> str:
    """What a library said, without the rest of its essay: fit for the inside of a sentence of ours."""
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")


class Interrupted(DreamboothError):
    """Stopped by a signal, after the state was saved; the text says how to go on."""

    exit_code = 130
