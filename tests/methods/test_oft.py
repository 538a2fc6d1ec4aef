"""OFT's own settings."""

from dreambooth.methods.oft import OFT


def test_a_bound_makes_it_constrained_and_without_one_it_is_free() -> None:
    bound, free = OFT(coft_eps=6e-5).peft(["to_q"]), OFT().peft(["to_q"])
    assert bound.coft and bound.eps == 6e-5 and not free.coft
