"""A denoiser that several processes hold together: each has its share of every weight, and a block is whole for the moment in which it is
asked.

torch divides it and gathers it (`fully_shard`, FSDP2). A pass is then the work of all processes at once. The first one draws pictures and
saves alone; it says what it is about to do, and the others do the same beside it: `leading`, `follow` and `together`.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dreambooth.families.offload import blocks_of


class Shards:
    """A network divided among all processes: its blocks one by one, then what stands between them."""

    _leads = _is_broken = False

    def __init__(self, part: nn.Module, device: torch.device, *, learns: bool, patience: timedelta):
        """`learns`: what learns is divided, too, and torch adds up its gradients. Otherwise it stays whole in every process.

        Afterwards the network is on the device, and stays there. Nobody waits longer for another than `patience`.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        self.part, self.device = part, device
        self.kind: Any = type(part)
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        whole = set() if learns else {parameter for parameter in part.parameters() if parameter.requires_grad}
        mesh = init_device_mesh(device.type, (self.count,))
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)  # of views, on which nobody works in place
        for module in (*(block for _, block in blocks_of(part)), part):
            divided = fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
            divided.set_gradient_divide_factor(1.0)  # rows are weighed, so that gradients are summed
            divided.set_force_sum_reduction_for_comms(True)
        for parameter in whole:
            parameter.data = parameter.data.to(device)
        self.answers: dict[str, Callable[..., object]] = {"gather": self._gathered}
        """What a process does when the first one asks for it."""
        self.shares: dict[nn.Parameter, nn.Parameter] = {}
        """Of everything divided that learns: this process's share, an ordinary tensor over the same memory."""
        for parameter in part.parameters():
            if isinstance(parameter, DTensor) and parameter.requires_grad:
                self.shares[parameter] = nn.Parameter(parameter.to_local().detach())
        self._wholes = {share: parameter for parameter, share in self.shares.items()}
        self._talk: Any = dist.new_group(backend="gloo", timeout=patience)

    def move(self, part: nn.Module, device: torch.device) -> None:
        """Move another part; this one stays where it is."""
        if part is not self.part:
            part.to(device)

    def is_share(self, parameter: nn.Parameter) -> bool:
        """Whether this is a share of a weight, and not a weight."""
        return parameter in self._wholes

    def take_gradients(self) -> None:
        """Hand what a backward pass has left, which torch has added up over the processes, to the shares."""
        for parameter, share in self.shares.items():
            share.grad = None if parameter.grad is None else parameter.grad.to_local()  # type: ignore[attr-defined]
            parameter.grad = None

    def whole(self, share: nn.Parameter, value: Tensor) -> Tensor:
        """What all processes' values for a share make together, in the first process's RAM, and nothing in the others'."""
        from torch.distributed.tensor import DTensor

        like: Any = self._wholes[share]
        shape = {"shape": like.shape, "stride": like.stride()}
        return self._kept(DTensor.from_local(value, like.device_mesh, like.placements, run_check=False, **shape))

    def share(self, share: nn.Parameter, value: Tensor) -> Tensor:
        """This process's share of a whole value."""
        assert value.shape == self._wholes[share].shape
        rows = -(-len(value) // self.count)
        return value[self.rank * rows : (self.rank + 1) * rows].clone()

    def fill(self, saved: Mapping[str, Tensor]) -> None:
        """Take this process's share of whole weights; raises RuntimeError where they are not this network's."""
        state = self.part.state_dict()
        if {name: one.shape for name, one in state.items()} != {name: one.shape for name, one in saved.items()}:
            raise RuntimeError("its tensors have other names or shapes")
        for parameter, name in ((parameter, name) for name, parameter in self.part.named_parameters()):
            share = self.shares[parameter]
            share.data.copy_(self.share(share, saved[name]))

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """A block in which the first process's network is saved as one that was never divided."""
        with self.together("gather"):
            state = self._gathered()
        divided, part = type(self.part), self.part
        part.__class__, part.state_dict = self.kind, lambda *_, **__: state  # type: ignore[assignment]
        try:
            yield
        finally:
            del part.state_dict
            part.__class__ = divided

    @contextmanager
    def leading(self) -> Iterator[None]:
        """A block of the first process that the others `follow`."""
        self._leads = True
        try:
            yield
        finally:
            self._leads = False
            if not self._is_broken:
                self._said(None)

    def follow(self) -> None:
        """Do what the first process asks for, until it has left its block."""
        while (asked := self._said(None)) is not None:
            name, given = asked
            self.answers[name](*given)

    @contextmanager
    def together(self, name: str, *given: object) -> Iterator[None]:
        """A block in which the first process does what the others do by `answers[name](*given)`. One that fails in it is past help: the
        others wait in the middle of a pass, and end when it does."""
        if self._leads:
            self._said((name, given))
        try:
            yield
        except BaseException:
            self._is_broken = True
            raise

    def _said(self, word: Any) -> Any:
        """The first process's word, in every process."""
        words = [word]
        dist.broadcast_object_list(words, src=0, group=self._talk, device=torch.device("cpu"))
        return words[0]

    def _gathered(self) -> dict[str, Tensor]:
        """The whole state, one tensor after the other."""
        return {name: self._kept(value) for name, value in self.part.state_dict().items()}

    def _kept(self, value: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return whole.detach().cpu() if self.rank == 0 else torch.empty(0)


def together(shards: Shards | None, name: str, *given: object) -> AbstractContextManager[None]:
    """`Shards.together`, or nothing where every process has the whole network."""
    return shards.together(name, *given) if shards else nullcontext()


def undivided(shards: Shards | None) -> AbstractContextManager[None]:
    """`Shards.undivided`, or nothing."""
    return shards.undivided() if shards else nullcontext()
