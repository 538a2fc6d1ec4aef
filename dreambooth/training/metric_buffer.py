"""The last k updates, kept on the device, so that no step waits for the host: what the bar shows, and who is to blame for a NaN."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreambooth.core.errors import RunError

MAX_OVERFLOWS = 10


@dataclass(frozen=True)
class Rows:
    """One update's rows as they were: errors [b], timestep indices [b], picture numbers [b], and whether they are photos [b]."""

    step: int
    error: Float[Tensor, "b"]
    t: Int[Tensor, "b"]
    photo: Int[Tensor, "b"]
    norm: Float[Tensor, ""]
    skipped: Bool[Tensor, ""]


class MetricBuffer:
    """Updates since the last reading. An update that is not finite has already been skipped; checking it stops the run.

    With a gradient scaler (float16) a skipped update is ordinary; ten in a row are not.
    """

    def __init__(self, *, num_photos: int, names: list[str], scaled: bool):
        self.num_photos, self.names, self.scaled = num_photos, names, scaled
        self.applied_in_part = False
        """Whether tensors whose gradients were finite have been stepped all the same."""
        self.rows: list[Rows] = []
        self.checked = self.overflows = 0

    def add(self, rows: Rows) -> None:
        """Keep an update; nothing is read from the device."""
        self.rows.append(rows)

    def check(self, last_checkpoint: str | None) -> None:
        """Raise RunError, naming picture, time and step, if an update since the last check was not finite; the means are not touched."""
        fresh = self.rows[self.checked :]
        for rows, skipped in zip(fresh, torch.stack([r.skipped for r in fresh]).tolist() if fresh else (), strict=True):
            self.overflows = self.overflows + 1 if skipped else 0
            if skipped and (not self.scaled or not bool(rows.error.isfinite().all()) or self.overflows >= MAX_OVERFLOWS):
                raise RunError(self._blame(rows, last_checkpoint))
        self.checked = len(self.rows)

    def read(self, last_checkpoint: str | None) -> dict[str, float]:
        """Means over the updates since the last reading, checked."""
        self.check(last_checkpoint)
        values = self._means() if self.rows else {}
        self.rows, self.checked = [], 0
        return values

    def _means(self) -> dict[str, float]:
        error = torch.cat([r.error for r in self.rows]).cpu()
        is_photo = torch.cat([r.photo for r in self.rows]).cpu() < self.num_photos
        norms = torch.stack([r.norm for r in self.rows]).cpu()
        values = {"loss_subject": float(error[is_photo].mean())} if is_photo.any() else {}
        if (~is_photo).any():
            values["loss_prior"] = float(error[~is_photo].mean())
        finite = norms[norms.isfinite()]
        return values | ({"grad_norm": float(finite.mean())} if len(finite) else {})

    def _blame(self, rows: Rows, last_checkpoint: str | None) -> str:
        bad = (~rows.error.isfinite()).nonzero().flatten().tolist()
        who = [f"{self.names[int(rows.photo[i])]} at timestep {int(rows.t[i])}" for i in bad]
        what = f"the error of {' and '.join(who)}" if who else "the gradient"
        kept = f"The last good checkpoint is {last_checkpoint}." if last_checkpoint else "No checkpoint had been saved yet."
        if self.overflows >= MAX_OVERFLOWS:
            what += f" for {MAX_OVERFLOWS} steps in a row"
        fix = "Use a lower --learning_rate, or --mixed_precision bf16 or no."
        applied = "Nothing of it was saved." if self.applied_in_part else "It was not applied."
        return f"Step {rows.step} is not finite: {what}. {applied} {kept} {fix}"
