"""The peak memory of every phase of a run, learned by running the phase itself on networks without numbers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch.utils._pytree import tree_leaves

from dreambooth.core.batch import Batch
from dreambooth.families import Family, ModelSource
from dreambooth.families.samplers import make_scheduler, sampler
from dreambooth.families.sampling import Sampling, call
from dreambooth.families.superresolution import SuperResolution
from dreambooth.memory.count import Alive, Peak, fake
from dreambooth.memory.networks import Mode, changing, load
from dreambooth.memory.shares import CountedShards
from dreambooth.methods import Learner
from dreambooth.setup.attention import rehearsed
from dreambooth.setup.base_weights.layers import as_parameters
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import (
    attach,
    check_fit,
    configure_conditioning,
    configure_tokenizers,
    draws_pictures,
    idle_parts,
    keeps_idle_parts,
    learning_parts,
    load_base,
    prior_precision,
    training_schedule,
    vae_names,
)
from dreambooth.setup.offloading import offload
from dreambooth.training.batches import encoded_at_once, text_table
from dreambooth.training.ema import Average
from dreambooth.training.step import FusedUpdate, Update, forward_backward

PROMPT = "a photo of a dog"


@dataclass(frozen=True)
class Phase:
    """A phase of a run at its highest."""

    name: str
    peak: Peak


class Rehearsal:
    """A run on networks without numbers. Each phase is a method, whose peak counts what then lies on the device, too."""

    def __init__(self, config: TrainConfig, *, on_cpu: bool, mode: Mode | None = None):
        """`on_cpu`: nothing leaves the device when it is idle, for there is no other place. `mode` is for tests and measurements, which
        rehearse with numbers."""
        self.mode, self.on_cpu, config = mode or fake(), on_cpu, rehearsed(config)
        self.loaded: Mapping[str, int] = {}
        """Bytes of every part as it is loaded, before --base_weights packs it."""
        self.family = load_base(config, load=self._load)
        with changing(self.mode):
            offload(config, self.family, torch.device("cpu"))
        if not config.cropping.resolution:
            config = config.updated({("cropping", "resolution"): self.family.native_resolution})
        self.config = config
        self.side = config.cropping.resolution or 0
        check_fit(config, self.family)
        configure_conditioning(config, self.family)
        configure_tokenizers(self.family, config.text)
        self.learning = learning_parts(config, self.family)
        with torch.random.fork_rng(devices=[]), changing(self.mode):
            self.learner: Learner = attach(config, self.family, seed=0)
            self.shares = self._divided()
            self.update = self._update()
            self.states = self._states()
        self.learner.mode(train=True)
        self._drawn: dict[tuple[bool, str], Peak] = {}

    @property
    def trainable(self) -> int:
        """How many numbers learn."""
        return self.learner.num_weights

    def phases(self, *, first: str | None = None) -> Iterator[Phase]:
        """All phases that this run has, in order, but for one that is wanted `first`."""
        peaks: dict[str, Callable[[], Peak]] = {
            "class images": self.class_images, "encoding": self.encoding, "training": self.training, "previews": self.previews,
            "saving": self.saving,
        }  # fmt: skip
        has = {"class images": self.config.has_prior, "previews": draws_pictures(self.config)}
        for name in sorted(peaks, key=lambda name: name != first):
            if has.get(name, True):
                yield Phase(name, peaks[name]())

    def class_images(self) -> Peak:
        """Drawing class images with the untuned model."""
        return self.drawing(self.config.prior.sampling(self.side), prior_precision(self.config))

    def previews(self) -> Peak:
        """Drawing pictures of what is being trained, whose optimizer stays where it is."""
        drawn = self.drawing(self.config.validation.sampling(self.side), self.config.loop.mixed_precision)
        return with_states(drawn, sum(state.nbytes for state in self.states))

    def drawing(self, sampling: Sampling, precision: str) -> Peak:
        """One call of diffusers' pipeline with as many pictures as are drawn at a time; two steps of it, for all are alike.

        No sampler keeps more than a few latents, so that pictures of one guidance and precision are drawn once for all samplers.
        """
        key = (sampling.guidance_scale > 1, precision)
        if key not in self._drawn:
            count, few = self.config.prior.sample_batch_size, sampling.model_copy(update={"num_inference_steps": 2})
            self.learner.mode(train=False)
            using = sampler(self.family, make_scheduler(self.family, few.scheduler))
            with self._counting(self.family.parts, asks=True) as alive, using, self.family.drawing([PROMPT]):
                call(self.family, [PROMPT] * count, list(range(count)), few, None, precision, self._small(count))
            self.learner.mode(train=True)
            self._drawn[key] = alive.peak
        return self._drawn[key]

    def encoding(self) -> Peak:
        """The VAE over as many pictures as are encoded at a time, then the text encoders over two prompts."""
        peaks: list[Peak] = []
        square = (self.side, self.side)
        if self.config.cropping.cache_latents:
            with self._counting(self._there_to_encode(vae_names(self.family))) as alive, torch.no_grad():
                self.family.encode(torch.zeros(encoded_at_once(square), 3, *square))
            peaks.append(alive.peak)
        with self._counting(self._there_to_encode(self.family.encoder_names)) as alive, torch.no_grad():
            text_table(self.family, [PROMPT] * 2, learning=self.learning)
        return max([*peaks, alive.peak], key=lambda peak: peak.bytes)

    def _there_to_encode(self, parts: Iterable[str]) -> list[str]:
        """What lies on the device while these parts are asked. A share of the denoiser stays there."""
        return list(self.family.parts if self.on_cpu else [*parts, *([self.family.denoiser_name] if self.shares else [])])

    def training(self) -> Peak:
        """One update: the first has no optimizer state yet, so it is one of the others."""
        loop, config = self.config.loop, self.config
        idle = idle_parts(config, self.family)
        stays = self.on_cpu and keeps_idle_parts(config)
        there = [name for name in self.family.parts if stays or name not in idle]
        with self._counting(self.family.parts):
            batch = self._batch()
        with self._counting(there, states=True, asks=True) as alive:
            for tensor in tree_leaves([vars(batch)]):
                if isinstance(tensor, torch.Tensor):
                    alive.add(tensor, "batch")
            parameters = [p for some in self.learner.parameters().values() for p in some]
            shared = self.shares.reducing(alive) if self.shares else nullcontext()
            with alive.gradients(parameters), shared, self.update.backward():
                forward_backward(
                    self.family, batch, process=training_schedule(config, self.family), objective=config.objective,
                    pieces=loop.gradient_accumulation_steps, precision=loop.mixed_precision,
                )  # fmt: skip
            for parameter in parameters:
                parameter.grad = None
        return alive.peak

    def saving(self) -> Peak:
        """What lies on the device when it is saved; files are written from there, tensor by tensor."""
        with self._counting(self.family.parts if self.on_cpu else self.learner.parts, states=True) as alive:
            return alive.peak

    def weights(self) -> Mapping[str, int]:
        """Bytes of every part as it is trained with."""
        return weights_of(self.family)

    @property
    def processes(self) -> int:
        """How many hold the denoiser together."""
        return self.shares.count if self.shares else 1

    @property
    def offloaded(self) -> int:
        """Bytes of pinned memory in which blocks are kept. They come in powers of two."""
        blocks = self.family.offload.blocks.values() if self.family.offload else ()
        return sum(1 << (block.offloaded.nbytes - 1).bit_length() for block in blocks)

    def _divided(self) -> CountedShards | None:
        """What a process has of a denoiser that several hold together."""
        execution, denoiser = self.config.execution, self.family.denoiser
        if not execution.is_divided:
            return None
        as_parameters(denoiser)
        shares = CountedShards(denoiser, execution.fsdp or 1, learns=self.config.method.trains_whole_parts)
        self.family.shards = shares
        return shares

    def _load(self, source: ModelSource, dtypes: Mapping[str, torch.dtype]) -> Family:
        family = load(source, dtypes, mode=self.mode)
        self.loaded = weights_of(family)
        return family

    def _batch(self) -> Batch:
        """An update of this process: photos, and as many class images."""
        loop = self.config.loop
        rows = loop.train_batch_size * loop.gradient_accumulation_steps * (2 if self.config.has_prior else 1)
        with torch.no_grad():
            table = text_table(self.family, [PROMPT], learning=self.learning)
            square = (self.side, self.side)
            geometry = self.family.geometry(square, (0, 0), square)
            shape = (rows, *self.family.latent_shape(*square))
            condition = {name: torch.cat([one] * rows) for name, one in {**table, **geometry}.items()}
            if self.family.conditioning_channels:
                moments = self.family.encode(torch.zeros(rows, 3, *square))
                condition |= self.family.conditioning(moments, (torch.Generator() for _ in range(rows)))
            mask = torch.ones(rows, 1, *shape[2:]) if self.config.objective.masked_loss else None
            long = torch.zeros(rows, dtype=torch.long)
            return Batch(
                x=torch.randn(shape), eps=torch.randn(shape), t=long, weight=torch.ones(rows), condition=condition, photo=long, mask=mask
            )

    def _small(self, count: int) -> list[torch.Tensor]:
        """The small pictures that a stage of a cascade makes large; none for a model that draws from text alone."""
        if not isinstance(self.family, SuperResolution):
            return []
        return list(self.family.small_pictures(torch.zeros(count, 3, self.side, self.side)))

    def _update(self) -> Update:
        """What steps, with its state as an update leaves it. Of other libraries' optimizers, which compute with numbers, one without state
        takes the place."""
        parameters, optimization, cpu = self.learner.parameters(), self.config.optimization, torch.device("cpu")
        if optimization.chosen.package:
            optimizer: torch.optim.Optimizer = torch.optim.SGD([{"params": some} for some in parameters.values()], lr=0.0)
        else:
            optimizer = optimization.build(parameters, device=cpu, pictures_per_update=1)
        for parameter in (p for some in parameters.values() for p in some):
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        kind = FusedUpdate if self.config.execution.fused_backward_pass else Update
        return kind(optimizer, max_grad_norm=optimization.max_grad_norm, precision="no", device=cpu)

    def _states(self) -> list[torch.Tensor]:
        """What the optimizer and a moving average keep, as they make it; of other libraries' optimizers, by what they say they keep."""
        flat, optimizer = self.update.parameters, self.update.optimizer
        chosen = self.config.optimization.chosen
        if chosen.package:
            kept = [torch.empty(p.numel() * chosen.state_bytes, dtype=torch.uint8) for p in flat]
        else:
            states = [(p, value) for p, state in optimizer.state.items() for value in state.values() if isinstance(value, torch.Tensor)]
            kept = [self.shares.share_of(p, value) if self.shares else value for p, value in states]
        return kept + (Average(flat, self.config.loop.ema_decay, self.learner.after_update).values if self.config.loop.use_ema else [])

    def _kind(self, name: str) -> str:
        """What a part is called where a peak is taken apart."""
        family = self.family
        return "weights" if name == family.denoiser_name else "text encoders" if name in family.encoder_names else "VAE"

    def _resident(self, name: str) -> Iterable[torch.Tensor]:
        """What a part has on the device when it is there."""
        family, part = self.family, self.family.parts[name]
        if self.shares and part is family.denoiser:
            return self.shares.resident()
        return family.offload.resident(part) if family.offload else (*part.parameters(), *part.buffers())

    @contextmanager
    def _counting(self, parts: Iterable[str], *, states: bool = False, asks: bool = False) -> Iterator[Alive]:
        """A block that is counted, with these parts and, `states`, the optimizer's state on the device; one that `asks` the denoiser has
        blocks of it whole."""
        alive, family = Alive(), self.family
        with torch.random.fork_rng(devices=[]), changing(self.mode), alive:
            if family.offload:
                family.offload.clear()
                family.offload.copying = lambda block: alive.making(self._kind(block.name.partition(".")[0]))
            for name in parts:
                for tensor in self._resident(name):
                    alive.add(tensor, self._kind(name))
            for whole in self.shares.divided if self.shares else ():
                alive.ignore(whole)
            if self.shares and asks:
                alive.add(self.shares.at_work, self._kind(family.denoiser_name))
            for state in self.states if states else []:
                alive.add(state, "optimizer")
            yield alive


def weights_of(family: Family) -> Mapping[str, int]:
    """Bytes of every part."""
    return {name: sum(t.nbytes for t in (*part.parameters(), *part.buffers())) for name, part in family.parts.items()}


def with_states(peak: Peak, size: int) -> Peak:
    """A peak of networks alone, with the optimizer's state of so many bytes beside them."""
    return Peak(peak.bytes + size, {**peak.parts, "optimizer": size})
