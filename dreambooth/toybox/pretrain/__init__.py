"""How the toybox's weights are made: render, vae, latents, unet; and the encoders clip, instance, judge, perceptual."""
