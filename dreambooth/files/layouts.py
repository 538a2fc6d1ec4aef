"""What files of LoRA weights are called."""

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "pytorch_lora_weights_kohya.safetensors"
"""The same in kohya's names, which ComfyUI and A1111 read."""
