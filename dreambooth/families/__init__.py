"""The families, one file each. A new one is its file and its name here."""

from dreambooth.core.errors import SettingError
from dreambooth.families.base import Family
from dreambooth.families.deepfloyd import DeepFloyd
from dreambooth.families.deepfloyd_superresolution import DeepFloydSuperResolution
from dreambooth.families.fitting import FIX, purpose, refuse_unfit
from dreambooth.families.flux import Flux
from dreambooth.families.flux2 import Flux2
from dreambooth.families.sd3 import SD3
from dreambooth.families.sdxl import SDXL
from dreambooth.families.source import FLAG, ModelSource, fingerprint
from dreambooth.families.stable_diffusion import StableDiffusion
from dreambooth.families.upscaler import Upscaler
from dreambooth.families.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (StableDiffusion, SDXL, Flux, Flux2, SD3, ZImage, DeepFloyd, DeepFloydSuperResolution, Upscaler)


def family_of(source: ModelSource) -> type[Family]:
    """The family of a pipeline folder, by the class in its model_index.json.

    Raises SettingError for one that is not known, and for networks that are not those of a text-to-image model of it.
    """
    kind = str(source.index().get("_class_name"))
    for family in FAMILIES:
        if kind in family.pipelines:
            refuse_unfit(family, source)
            return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    what = purpose(kind)
    reason = f"{kind} is {what}." if what else f"{kind} is no family that can be trained yet; known are {known}."
    raise SettingError(FLAG, reason, fix=FIX if what else "Choose a base model of these.")


__all__ = ["FAMILIES", "Family", "ModelSource", "family_of", "fingerprint"]
