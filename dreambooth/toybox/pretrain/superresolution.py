"""Stage II of a pixel cascade in DeepFloyd IF's layout: 32 px to 128 px, with its own T5.

A pair is a rendered picture and its area average, enlarged and noised as `IFSuperResolutionPipeline` does; the level of that noise is a
class label, low ones come most often (`level = 1000 u ** 3`). v-prediction, since epsilon at the noisy end says nothing about the
picture; three more channels are the variance, learned as in Nichol and Dhariwal (2021). It learns on crops of the subject, which cost a
quarter, and on whole pictures at the end. With an accelerator all pictures lie on it, and nothing in a batch waits for the CPU.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, IFSuperResolutionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnAddedKVProcessor
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from ..world.captions import training_caption
from .groupnorm import quicken
from .loop import Stage, device, suited
from .muon import matrices
from .pictures import GRID, SIZE, Pictures
from .vae import autocast, pixels
from .words import build_t5_tokenizer, rare_tokens

RATIO = 4
"""Pixels of a picture for one of the small picture, a side."""
CROP = 64
WHOLE = 0.8
"""The part of the budget after which pictures are whole; it is also where the rate begins to fall."""
CAPTIONS = 2
"""Captions drawn for every picture."""
HELD = 240
"""Pictures at the end that nothing learns from."""
WIDTH = 64
"""Width of the text encoder, and of what the denoiser attends to."""
NOISE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
FOLDER = "superresolution"


def build_unet() -> UNet2DConditionModel:
    """The denoiser, untrained: 128 to 16 px wide, attention to itself and the words at 16; it begins near the identity."""
    unet = UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=6,
        out_channels=6,
        down_block_types=(*("ResnetDownsampleBlock2D",) * 3, "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * 3),
        block_out_channels=(24, 48, 80, 96),
        layers_per_block=1,
        norm_num_groups=8,
        act_fn="gelu",
        attention_head_dim=32,
        cross_attention_dim=WIDTH,
        cross_attention_norm="group_norm",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        class_embed_type="timestep",
        resnet_time_scale_shift="scale_shift",
        mid_block_scale_factor=1.414,
        time_embedding_dim=96,
        time_embedding_act_fn="gelu",
    )
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("conv2.weight", "to_out.0.weight")):
                weight *= 0.1
        nn.init.zeros_(unet.conv_out.weight)
    return unet


def build_text(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """A T5 encoder of two layers, untrained."""
    size = {"d_model": WIDTH, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), **size, feed_forward_proj="gated-gelu", dropout_rate=0.0))


class Noise:
    """The schedule of both noises, on the device: that of the picture by timestep, that of the small picture by level."""

    def __init__(self) -> None:
        scheduler = DDPMScheduler(**NOISE)
        alphas, betas = scheduler.alphas_cumprod.to(device()), scheduler.betas.to(device())
        before = torch.cat([alphas.new_ones(1), alphas[:-1]])
        posterior = betas * (1 - before) / (1 - alphas)
        self.a, self.s = alphas.sqrt(), (1 - alphas).sqrt()
        self.mean = betas * before.sqrt() / (1 - alphas)
        """How much of the picture is in the mean of the step before."""
        self.least, self.most = posterior.clamp(min=posterior[1]).log(), betas.log()
        """Bounds of the step's log variance, the first of which is the posterior's."""

    def add(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x [n, ...] with noise as of t [n]."""
        return rows(self.a, t) * x + rows(self.s, t) * eps

    def divergence(self, said: Tensor, wrong: Tensor, t: Tensor) -> Tensor:
        """KL divergence of the step that the network would take from the true one, in nats for each value.

        `said` in -1..1 places the log variance between its bounds; `wrong` is the error of v, which is not learned from here.
        """
        least, most = rows(self.least, t), rows(self.most, t)
        log = least + (said + 1) / 2 * (most - least)
        off = rows(self.mean * self.s, t) * wrong.detach()
        return 0.5 * (log - least - 1 + (least - log).exp() + off.square() * (-log).exp())


def rows(values: Tensor, index: Tensor) -> Tensor:
    """`values` at `index` [n], one for each picture [n, 1, 1, 1]."""
    return values[index].view(-1, 1, 1, 1)


def shrink(x: Tensor) -> Tensor:
    """The small picture: an area average."""
    return F.avg_pool2d(x, RATIO)


def enlarge(small: Tensor) -> Tensor:
    """The small picture at the size of the large one, as the pipeline does it."""
    return F.interpolate(small, scale_factor=RATIO, mode="bilinear", align_corners=True)


class SuperResolution(Stage):
    """Learns to draw a picture of which it sees a small one."""

    name, rate, average = "sr", 1e-3, 0.997

    def __init__(self, work: Path, start: Path | None = None):
        self.work = work
        self.tokenizer = T5Tokenizer.from_pretrained(start / "tokenizer") if start else build_t5_tokenizer()
        if start:
            self.unet = UNet2DConditionModel.from_pretrained(start / "unet", dtype=torch.float32)
            self.text = T5EncoderModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
        else:
            self.unet, self.text = build_unet(), build_text(self.tokenizer)
        self.unet.train()
        self.text.train().set_attn_implementation("eager")
        if device().type == "cpu":
            self.unet.set_attn_processor(AttnAddedKVProcessor())
        self.unet = self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        quicken(self.unet)
        self.noise = Noise()
        self.pictures = Pictures(work / "pictures")
        self.train = len(self.pictures) - HELD
        self.covers = torch.from_numpy(self.pictures.covers()).to(device())
        self.captions = self.tokenized().to(device())
        self.empty = self.ids([""])[0].to(device())

    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        return {"unet": (self.unet, 1.0), "text": (self.text, 0.25)}

    def matrices(self) -> set[Tensor]:
        outer = ("conv_in", "conv_out", "time_embedding", "class_embedding", "add_embedding", "encoder_hid_proj")
        return matrices(self.unet, outer=outer) | matrices(self.text)

    def ids(self, texts: list[str]) -> Tensor:
        """Token ids int16 [n, 77] of lower-case texts."""
        length = self.tokenizer.model_max_length
        return self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids.short()

    def tokenized(self) -> Tensor:
        """Captions of every picture: int16 [n, CAPTIONS, 77]."""
        rng, rare = np.random.default_rng(11), rare_tokens()
        texts = [training_caption(*pair, rng, rare).lower() for pair in self.pictures.truth() for _ in range(CAPTIONS)]
        return self.ids(texts).view(-1, CAPTIONS, self.tokenizer.model_max_length)

    def take(self, index: Tensor) -> Tensor:
        """Whole pictures [n, 3, SIZE, SIZE] in -1..1."""
        return pixels(self.pictures.at(index))

    def crops(self, pairs: Tensor, index: Tensor, g: torch.Generator) -> Tensor:
        """A crop of each [n, c, SIZE, SIZE], its middle drawn over the picture, most often where the subject is."""
        odds = self.covers[index].flatten(1).float() + 32
        cell = (odds / torch.empty_like(odds).exponential_(generator=g)).argmax(1)
        side = SIZE // GRID
        shift = torch.randint(side, (2, len(index)), generator=g, device=device())
        first = (torch.stack([cell // GRID, cell % GRID]) * side + shift - CROP // 2).clamp(0, SIZE - CROP)
        down, right = first[:, :, None] + torch.arange(CROP, device=device())
        cut = pairs[torch.arange(len(index), device=device())[:, None, None], :, down[:, :, None], right[:, None, :]]
        return cut.permute(0, 3, 1, 2)

    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, dict[str, Tensor], int]:
        g = torch.Generator(device()).manual_seed(int(torch.randint(1 << 62, (1,), generator=rng)))
        n = suited(16, 512) // (1 if done < WHOLE else (SIZE // CROP) ** 2)
        index = torch.randint(self.train, (n,), generator=g, device=device())
        words = self.captions[index, torch.randint(CAPTIONS, (n,), generator=g, device=device())]
        words = torch.where(torch.rand(n, 1, generator=g, device=device()) < 0.1, self.empty, words)
        x = self.take(index)
        pairs = torch.cat([x, enlarge(shrink(x))], 1)
        level = (torch.rand(n, generator=g, device=device()) ** 3 * 1000).long()
        error, divergence = self.errors(pairs if done >= WHOLE else self.crops(pairs, index, g), words, level, g)
        figures = {"v": error.detach().mean(), "variance": divergence.detach().mean()}
        return error.mean() + divergence.mean(), figures, n

    def errors(self, pairs: Tensor, words: Tensor, level: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of v and divergence of the variance, both [n, 3, h, w], at stratified timesteps."""
        n, (x, large) = len(pairs), pairs.split(3, 1)
        t = ((torch.arange(n, device=device()) + torch.rand(n, generator=g, device=device())) / n * 1000).long().clamp(max=999)
        eps, own = torch.randn(2, *x.shape, generator=g, device=device())
        noisy = torch.cat([self.noise.add(x, eps, t), self.noise.add(large, own, level)], 1)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with autocast():
            condition = self.text(input_ids=words.long(), attention_mask=(words != self.tokenizer.pad_token_id).long()).last_hidden_state
            out = self.unet(noisy, t, condition, class_labels=level, return_dict=False)[0]
        v, said = out.float().split(3, 1)
        wrong = v - (rows(self.noise.a, t) * eps - rows(self.noise.s, t) * x)
        return wrong.square(), self.noise.divergence(said, wrong, t)

    def export(self, folder: Path) -> dict[str, float]:
        unet, text = copy.deepcopy(self.unet), copy.deepcopy(self.text)
        for module in unet.modules():
            module.__dict__.pop("forward", None)
        pipeline = assemble(unet.eval(), text.eval(), self.tokenizer)
        figures = self.drawn(pipeline, folder / "sheets" / "sr.png")
        pipeline.to(dtype=torch.float16).save_pretrained(folder / FOLDER)
        return figures

    def drawn(self, pipeline: IFSuperResolutionPipeline, sheet: Path) -> dict[str, float]:
        """Held-out photos drawn at levels 0 and 250, compared with the truth where the subject is; bicubic is what they have to beat."""
        n = 8 if device().type == "cpu" else 96
        photos = [i for i, (_, scene) in enumerate(self.pictures.truth()) if i >= self.train and scene.style == "photo"][:n]
        index = torch.tensor(photos, device=device())
        x = self.take(index)
        small, words = shrink(x), self.captions[index, 0].long()
        mask = F.interpolate(self.covers[index][:, None].float(), scale_factor=SIZE // GRID) > 127
        made = {"bicubic": F.interpolate(small, scale_factor=RATIO, mode="bicubic").clamp(-1, 1)}
        with torch.no_grad(), autocast():
            condition = self.text(input_ids=words, attention_mask=(words != self.tokenizer.pad_token_id).long()).last_hidden_state.float()
            for level in (0, 250):
                made[f"level_{level}"] = pipeline(
                    prompt_embeds=condition, image=small, noise_level=level, guidance_scale=1.0, num_inference_steps=25, output_type="pt",
                    generator=torch.Generator(device()).manual_seed(1),
                ).images.float().clamp(-1, 1)  # fmt: skip
        save_sheet([x, F.interpolate(small, scale_factor=RATIO), *made.values()], sheet)
        return {f"{name}_{what}": value for name, y in made.items() for what, value in compare(y, x, mask).items()}


def compare(y: Tensor, x: Tensor, mask: Tensor) -> dict[str, float]:
    """PSNR in dB, and correlation and energy of the fine part (what an area average takes away), inside the mask."""
    inside = mask.expand_as(x)
    fine, true = ((z - enlarge(shrink(z)))[inside] for z in (y, x))
    psnr = -10 * ((y - x)[inside] / 2).square().mean().log10()
    return {"psnr": psnr.item(), "fine": (F.cosine_similarity(fine, true, dim=0)).item(), "energy": (fine.norm() / true.norm()).item()}


def assemble(unet: UNet2DConditionModel, text: T5EncoderModel, tokenizer: T5Tokenizer) -> IFSuperResolutionPipeline:
    """The pipeline of stage II; its steps begin at pure noise (`trailing`)."""
    pipeline = IFSuperResolutionPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        unet=unet,
        scheduler=DDPMScheduler(**NOISE, prediction_type="v_prediction", variance_type="learned_range", timestep_spacing="trailing"),
        image_noising_scheduler=DDPMScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_sheet(lines: list[Tensor], path: Path) -> None:
    """A row of pictures for each way, the first eight of each."""
    sheet = torch.cat([torch.cat(list(line[:8]), 2) for line in lines], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(((sheet + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()).save(path)
