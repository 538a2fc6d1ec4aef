"""A running training is steered by empty files in `RUN/requests`, named after what is asked for; it takes them away as it reads them.

sample   draw a preview now
save     save a checkpoint now
stop     save and stop; --resume_from_checkpoint latest goes on
finish   end here: what is learned so far becomes the result
"""

from enum import IntFlag
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import from_here, resume_command, shell_words
from dreambooth.files.atomic import write_text
from dreambooth.files.places import is_inside, remove
from dreambooth.prompts.placeholder import PLACEHOLDER
from dreambooth.setup.model import keeps_idle_parts
from dreambooth.setup.open import read_config
from dreambooth.setup.runs import FoundRun
from dreambooth.setup.states import State, Status

REQUESTS = "requests"
NOTHING_DRAWS = "was started with --skip_final_inference and without --validation_prompt: what draws has left its memory"


class Asked(IntFlag):
    """What a training is asked for, all at once; a number, so that several processes can agree on it."""

    SAMPLE = 1
    SAVE = 2
    STOP = 4
    FINISH = 8


def ask(run: FoundRun, what: str) -> Status:
    """Put a request into a run's folder; returns the state that the run is in. Raises SettingError for a run that is not at work."""
    status, folder = run.status, run.folder / REQUESTS
    if run.remark:
        raise SettingError("run", f"{run.name} cannot be steered: {run.remark}.", fix="Use the version that started it.")
    if status is None or not status.state.is_active:
        fix = f"Go on with it: {resume_command(run.folder)}" if status and status.state is not State.FINISHED else ""
        raise SettingError("run", f"{run.name} is {status}: no process of it is at work.", fix=fix)
    if what == "sample" and not keeps_idle_parts(read_config(run.folder)):
        tell, here = shell_words("dreambooth", "runs", "tell", from_here(run.folder), "save"), from_here(run.folder)
        drawn = shell_words("dreambooth", "generate", here.with_name(f"{here.name}@STEP"), f"a {PLACEHOLDER} dog on the beach")
        fix = f"Save now ({tell}), and draw from the checkpoint: {drawn}"
        raise SettingError("run", f"{run.name} {NOTHING_DRAWS}.", fix=fix)
    if not is_inside(folder, run.folder):
        raise SettingError("run", f"{folder} is a link that leads out of the run; nothing is written there.", fix="Delete the link.")
    write_text(folder / what, "")
    return status


class Steering:
    """The requests to one start of a training. What an earlier start was asked for is forgotten."""

    def __init__(self, run: Path):
        self.run, self.folder = run, run / REQUESTS
        self.pending = Asked(0)
        remove(self.folder, root=run)

    def wants_stop(self) -> bool:
        """Whether it was asked to stop, once and for all."""
        self._read()
        return Asked.STOP in self.pending

    def take(self) -> Asked:
        """What else was asked for since the last call."""
        self._read()
        found = self.pending & ~Asked.STOP
        self.pending &= Asked.STOP
        return found

    def _read(self) -> None:
        """Take the files away, and remember them."""
        if not (self.folder.is_dir() and is_inside(self.folder, self.run)):
            return
        for one in Asked:
            path = self.folder / str(one.name).lower()
            if path.exists():
                remove(path, root=self.run)
                self.pending |= one
