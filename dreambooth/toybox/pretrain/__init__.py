"""How the toybox's weights are made, in stages: render, vae, latents, unet; and the encoders clip, instance, judge,
perceptual..
"""
