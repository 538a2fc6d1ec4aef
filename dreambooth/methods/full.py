"""Full fine-tuning: every weight of the denoiser learns, as in the paper (section 3.3: "fine-tuning all layers")."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from dreambooth.core.errors import SettingError, first_line
from dreambooth.families.base import Family
from dreambooth.families.shards import undivided
from dreambooth.families.source import UNREADABLE
from dreambooth.files.places import readable_name
from dreambooth.methods.base import Learner, Method


class Full(Method):
    """Every weight of the denoiser learns; the result is a whole pipeline."""

    kind: Literal["full"] = "full"

    def excludes(self) -> dict[str, tuple[str, str]]:
        reason = "every weight learns, and what an update adds to one is less than such a rounding."
        fix = "Leave it out, or use --method lora."
        return super().excludes() | {
            "base_weights": (reason, fix),
            "group_offload": ("every weight learns, none can be offloaded.", f"{fix} Several GPUs hold it together with --fsdp."),
        }

    def attach(self, family: Family, parts: Sequence[str], *, seed: int) -> Learner:
        for name in parts:
            family.parts[name].requires_grad_(True)
        return WholeParts(family, parts)

    @property
    def trains_whole_parts(self) -> bool:
        return True


class WholeParts(Learner):
    """Parts in their own folders (`unet/`, `text_encoder/`); the output is the pipeline they belong to."""

    def save(self, folder: Path, *, whole: bool) -> None:
        with undivided(self.family.shards):
            if whole:
                self.family.save(folder)
            else:
                for name in self.parts:
                    self.family.parts[name].save_pretrained(folder / name, safe_serialization=True)

    def load(self, folder: Path) -> None:
        for name in self.parts:
            part, shards = self.family.parts[name], self.family.shards
            held = shards if shards and shards.part is part else None
            kind = held.kind if held else type(part)
            try:
                with readable_name(folder / name) as place:
                    saved = kind.from_pretrained(place, dtype=next(part.parameters()).dtype, use_safetensors=True)
                (held.fill if held else part.load_state_dict)(saved.state_dict())
            except (*UNREADABLE, RuntimeError) as error:
                reason = f"cannot be loaded into this base model's {name} ({first_line(error)})."
                raise SettingError(str(folder / name), reason, fix="It is damaged, half written, or of another model.") from None

    def disabled(self) -> AbstractContextManager[None] | None:
        return None

    def usage_snippet(self) -> str:
        return ""
