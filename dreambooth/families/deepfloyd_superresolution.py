"""DeepFloyd IF, stage II: small pictures to four times their size, in pixels; the small one is enlarged and noised beside x."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from dreambooth.families.deepfloyd import DeepFloyd
from dreambooth.families.recipes import Recipe
from dreambooth.families.superresolution import SuperResolution, stage_rates


class DeepFloydSuperResolution(SuperResolution, DeepFloyd):
    """IF-II-M and L, 64 to 256 px; and the toybox's, 32 to 128."""

    name = "DeepFloyd IF, stage II"
    pipelines = ("IFSuperResolutionPipeline",)
    stage = 2
    default_latents = 256
    guidance_scale = 4.0
    schedulers = ("scheduler", "image_noising_scheduler")
    noising_scheduler = "image_noising_scheduler"
    base_level = 250
    takes_class_labels = True
    recipe: ClassVar[Recipe] = stage_rates(4)
    """Full: diffusers' README's rate at a batch of 12. There is no proven value for this objective, which nobody has trained; the others
    are Stable Diffusion's."""

    def small_of(self, moments: Float[Tensor, "b moments H W"]) -> Float[Tensor, "b 3 h w"]:
        return self.small_pictures(moments)

    def enlarged(self, small: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        size = [self.ratio * side for side in small.shape[2:]]
        return interpolate(small, size, mode="bilinear", align_corners=True)

    def predict(self, x_t: Float[Tensor, "b c h w"], time: Float[Tensor, "b"], condition: Mapping[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """Where nothing stands beside x, as diffusers' script trains: x once more, and its time as the level."""
        both = torch.cat([x_t, condition.get("conditioning_image", x_t)], dim=1)
        out = self.denoiser(both, time, condition["text"], class_labels=condition.get("noise_level", time), return_dict=False)[0]
        return out.chunk(2, dim=1)[0]

    def small_kwargs(self, small: Float[Tensor, "b 3 h w"]) -> dict[str, Any]:
        height, width = (self.ratio * side for side in small.shape[2:])
        return {"image": small, "noise_level": self.noise_level, "height": height, "width": width}

    def adapt_sampler(self, scheduler: Any) -> Any:
        """Samplers over sigmas (Euler) scale what goes into the network, by its noise: x alone, not the small picture beside it.

        diffusers' pipeline scales both, so that the network sees hardly anything of the small picture at first.
        """
        scale = scheduler.scale_model_input

        def scale_x(sample: Tensor, *rest: Any) -> Tensor:
            return torch.cat([scale(sample[:, :3], *rest), sample[:, 3:]], dim=1)

        scheduler.scale_model_input = scale_x
        return scheduler
