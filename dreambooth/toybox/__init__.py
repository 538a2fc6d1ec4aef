"""The toybox: a small rendered world, and a Stable-Diffusion-layout model of it that shipped weights make usable at once.

`world` renders, `pretrain` makes the weights, `verify` measures them. A demonstration and a test bed, never more.
"""
