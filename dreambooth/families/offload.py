"""Frozen weights that stay in the machine's memory, and come to the device block by block for the moment in which a block is asked.

Hooks on the forward pass are enough for training, too. A block's modules are lent other tensors while it is asked and have their own again
afterwards, so that what autograd has saved of a block stays as it was until its backward pass has used it; and under gradient
checkpointing nothing is saved until that backward pass asks the block again. (Tensors whose storage is exchanged, as diffusers' and
accelerate's hooks do, would be elsewhere by then.)
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ALIGNED = 512
"""Bytes to which tensors are laid out, as torch's allocators do: kernels take other ways where it is less."""
Slot = tuple[dict[str, Any], str]
"""Where a module looks for a tensor: its own table of them, and the name."""


class Block:
    """A block's frozen weights, one piece of memory."""

    def __init__(self, name: str, module: nn.Module, *, learned: tuple[str, ...], pinned: bool):
        self.name = name
        self.slots = list(_frozen(name, module, learned))
        self.own: list[Tensor] = [table[slot] for table, slot in self.slots]
        nbytes = sum(-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in self.own)
        self.offloaded = torch.empty(nbytes, dtype=torch.uint8, pin_memory=pinned)
        for tensor, place in zip(self.own, self.views(self.offloaded), strict=True):
            tensor.data = place.copy_(tensor.detach())

    def views(self, memory: Tensor) -> list[Tensor]:
        """The weights in a piece of memory that holds them all."""
        found, start = [], 0
        for tensor in self.own:
            found.append(memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape))
            start += -(-tensor.nbytes // ALIGNED) * ALIGNED
        return found

    def lend(self, memory: Tensor) -> None:
        """Let its modules find the weights in a piece of memory on the device."""
        for (table, slot), own, lent in zip(self.slots, self.own, self.views(memory), strict=True):
            table[slot] = nn.Parameter(lent, requires_grad=False) if isinstance(own, nn.Parameter) else lent

    def take_back(self, *_: Any) -> None:
        """Let its modules find the offloaded weights again."""
        for (table, slot), own in zip(self.slots, self.own, strict=True):
            table[slot] = own


class Visit:
    """A block's weights on the device. On CUDA they are copied beside the computation, from pinned memory."""

    def __init__(self, block: Block, device: torch.device, stream: torch.cuda.Stream | None):
        self.block, self.stream, self.device = block, stream, device
        self.worked: torch.Event | None = None
        with torch.cuda.stream(stream) if stream else nullcontext():
            self.memory = block.offloaded.to(device, non_blocking=True, copy=True)
            self.arrived = stream.record_event() if stream else None

    def begin(self) -> Tensor:
        """The weights, for work that waits until they have arrived."""
        if self.arrived:  # and whose memory is not another block's before that work is done
            current = torch.cuda.current_stream(self.device)
            current.wait_event(self.arrived)
            self.memory.record_stream(current)
        return self.memory

    def end(self) -> None:
        """All work with them has been asked for."""
        self.worked = torch.cuda.current_stream(self.device).record_event() if self.stream else None

    def wait(self) -> None:
        """Until that work is done: a host that ran ahead would have block after block copied beside those still at work."""
        if self.worked:
            self.worked.synchronize()


class Offload:
    """The blocks of a family's networks that are offloaded, and the few of them that are on the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.blocks: dict[nn.Module, Block] = {}
        self.copying: Callable[[Block], AbstractContextManager[Any]] = lambda _: nullcontext()
        """A block in which another one is copied to the device, for who counts them."""
        self._here: list[Visit] = []
        self._ahead: Visit | None = None
        self._asked: tuple[Block | None, Block | None] = (None, None)
        self._followed: dict[tuple[Block | None, Block | None], Block] = {}
        self._hooks: dict[nn.Module, Any] = {}

    def add(self, name: str, part: nn.Module, *, learned: tuple[str, ...] = ()) -> None:
        """Offload a part's blocks, but for weights whose names end on one of `learned`. What a method adds to them later does not."""
        for path, module in blocks_of(part):
            block = self.blocks[module] = Block(f"{name}.{path}", module, learned=learned, pinned=self.stream is not None)
            before = module.register_forward_pre_hook(partial(self._lend, block))
            after = module.register_forward_hook(block.take_back, always_call=True)
            self._hooks[module] = (before, after)

    def move(self, part: nn.Module, device: torch.device | str) -> None:
        """Move what of a part is not offloaded. Nothing of any stays on the device but that."""
        self.clear()
        with self._without_offloaded(part):
            part.to(device)

    def forget(self, part: nn.Module) -> None:
        """Let a part be an ordinary one again, whose weights are where they are kept."""
        self.clear()
        for module in list(part.modules()):
            if self.blocks.pop(module, None):
                for hook in self._hooks.pop(module):
                    hook.remove()

    def clear(self) -> None:
        """Give back what blocks have on the device."""
        for visit in self._here:
            visit.wait()
        self._here, self._ahead = [], None

    def resident(self, part: nn.Module) -> list[Tensor]:
        """A part's tensors that are not offloaded."""
        with self._without_offloaded(part):
            return [*part.parameters(), *part.buffers()]

    def _lend(self, block: Block, *_: Any) -> None:
        """A block is asked: what it needs is brought, and then what followed the last time that these two were asked one after the other.

        Three are on the device: the one before, whose work may not be done yet, this one, and the next one.
        """
        self._followed[self._asked] = block
        self._asked = (self._asked[1], block)
        if self._here:
            self._here[-1].end()
        visit = self._found(block)
        self._ahead = None
        self._leave_one_beside(visit)
        visit = visit or self._copied(block)
        self._here.append(visit)
        block.lend(visit.begin())
        following = self._followed.get(self._asked)
        if following and not self._found(following):
            self._ahead = self._copied(following)

    def _found(self, block: Block) -> Visit | None:
        return next((one for one in (*self._here, self._ahead) if one and one.block is block), None)

    def _leave_one_beside(self, visit: Visit | None) -> None:
        """Give back all but a visit's and the last one's beside it, once their work is done."""
        others = [one for one in self._here if one is not visit]
        for one in others[:-1]:
            one.wait()
        self._here = others[-1:]

    def _copied(self, block: Block) -> Visit:
        with self.copying(block):
            return Visit(block, self.device, self.stream)

    @contextmanager
    def _without_offloaded(self, part: nn.Module) -> Iterator[None]:
        """A block in which a part has nothing but what is not offloaded."""
        blocks = [self.blocks[module] for module in part.modules() if module in self.blocks]
        for block in blocks:
            for table, slot in block.slots:
                table[slot] = None
        try:
            yield
        finally:
            for block in blocks:
                block.take_back()


def blocks_of(part: nn.Module) -> list[tuple[str, nn.Module]]:
    """The smallest modules of a list that the part's library names as one (`_no_split_modules`): those that gradient checkpointing
    computes again one by one, but for a few."""
    names, found = set(getattr(part, "_no_split_modules", None) or ()), []
    for path, owner in part.named_modules():
        for place, module in owner.named_children() if isinstance(owner, nn.ModuleList) else ():
            inner = {type(one).__name__ for one in module.modules() if one is not module}
            if type(module).__name__ in names and names.isdisjoint(inner):
                found.append((f"{path}.{place}", module))
    return found


def _frozen(path: str, block: nn.Module, learned: tuple[str, ...]) -> Iterator[Slot]:
    for name, module in block.named_modules(prefix=path):
        tables: list[dict[str, Any]] = [module._parameters, module._buffers]
        for table in tables:
            for slot, tensor in table.items():
                is_learned = bool(learned) and f"{name}.{slot}".endswith(learned)
                if tensor is not None and not tensor.requires_grad and not is_learned:
                    yield table, slot
