"""The families, one file each. A new one is its file and its name here."""

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.families.deepfloyd import DeepFloyd
from dreambooth.families.deepfloyd_superresolution import DeepFloydSuperResolution
from dreambooth.families.fitting import FIX, purpose, refuse_unfit
from dreambooth.families.flux import Flux
from dreambooth.families.flux2 import Flux2
from dreambooth.families.flux2_dev import Flux2Dev
from dreambooth.families.krea2 import Krea2
from dreambooth.families.names import known_model
from dreambooth.families.pixart_sigma import PixArtSigma
from dreambooth.families.qwen_image import QwenImage
from dreambooth.families.sana import Sana
from dreambooth.families.sd3 import SD3
from dreambooth.families.sdxl import SDXL
from dreambooth.families.source import FLAG, ModelSource, fingerprint
from dreambooth.families.stable_diffusion import StableDiffusion
from dreambooth.families.upscaler import Upscaler
from dreambooth.families.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion, SDXL, Flux, Flux2, Flux2Dev, SD3, ZImage, Krea2, QwenImage, PixArtSigma, Sana, DeepFloyd, DeepFloydSuperResolution,
    Upscaler,
)  # fmt: skip


def trained_here(pipeline: str) -> type[Family] | None:
    """The family of a pipeline's class; None where it is none that can be trained."""
    return next((family for family in FAMILIES if pipeline in family.pipelines), None)


def family_of(source: ModelSource) -> type[Family]:
    """The family of a pipeline folder, by the class in its model_index.json.

    Raises SettingError for one that is not known, and for networks that are not those of a text-to-image model of it.
    """
    known_here = known_model(source.pretrained_model_name_or_path)
    kind = known_here.pipeline if known_here and not trained_here(known_here.pipeline) else str(source.index().get("_class_name"))
    if family := trained_here(kind):
        refuse_unfit(family, source)
        return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    what = purpose(kind)
    reason = f"{kind} is {what}." if what else f"{kind} is no family that can be trained yet; known are {known}."
    raise SettingError(FLAG, reason, fix=FIX if what else "Choose a base model of these.")


__all__ = ["FAMILIES", "Family", "ModelSource", "family_of", "fingerprint", "trained_here"]
