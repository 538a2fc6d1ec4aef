"""What the verbs take in Python. Written by `python -m tools.keywords` from the tree of settings."""

from pathlib import Path
from typing import Literal, TypedDict


class TrainKeywords(TypedDict, total=False):
    config: str | Path | None
    pretrained_model_name_or_path: str | Path | None
    """A diffusers pipeline folder, a single file of SD or SDXL, a model id on the Hub, or a short name (`dreambooth models`); automatic: the embedded toybox, which draws its own rendered world and no real photos."""
    lora: str | Path | None
    """A LoRA file, its folder or a Hub id, that is added to the base model's weights first; what is learned comes on top."""
    revision: str | Path | None
    """Branch, tag or commit of a Hub model."""
    variant: str | Path | None
    """Variant of the weight files, such as fp16."""
    pretrained_vae_name_or_path: str | Path | None
    """Another VAE than the base model's own: a folder, or a Hub id. (With fp16 SDXL's own decodes in float32.)"""
    single_file_config: str | Path | None
    """Where the base model is a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    tokenizer_name: str | Path | None
    """Another tokenizer than the base model's own: a folder or a Hub id."""
    cache_dir: str | Path | None
    """Where downloaded models are kept."""
    safety_checker: bool | None
    """Keep the base model's safety checker, where it has one, in a result that is a whole pipeline; `generate` runs it."""
    verify_base: bool | None
    """Read the base model's files again, and hold them against what they were when they were first read."""
    allow_pickle: bool | None
    """Also load weights saved as pickles (.bin, .ckpt). A pickle can run any code on this machine: only for files you trust."""
    instance_data_dir: str | Path | None
    """Folder of the subject's photos; 3-5 are enough."""
    class_noun: str | Path | None
    """What the subject is: dog, backpack, teapot ... It makes the prompts and turns prior preservation on."""
    identifier: str | Path | None
    """The rare word [V] that will mean the subject; automatic: it is picked from the model's tokenizers."""
    identifier_tokens: int | None
    """Rare tokens of an identifier that is picked, a word each. More of them hold more of the subject, and more of its photos' places."""
    concept: Literal["object", "style"] | None
    """Whether the photos share an object ("a [V] dog") or a style ("a painting in the style of [V]")."""
    instance_prompt: str | Path | None
    """What every photo is called; automatic: made from the class noun. [V] stands for the identifier."""
    class_prompt: str | Path | None
    """What the prior's pictures are called; automatic: made from the class noun."""
    concepts_list: str | Path | None
    """JSON file of several subjects: a list of {instance_prompt, class_prompt, instance_data_dir, class_data_dir, num_class_images}."""
    use_captions: bool | None
    """A .txt or .caption beside a photo says what it shows, instead of the instance prompt."""
    mask_dir: str | Path | None
    """For --masked_loss: masks named as their photos, white where the subject is; automatic: `masks` beside them, or their transparency."""
    ignore_photo_errors: bool | None
    """Train although the check of the photos found errors; unreadable photos are then left out."""
    resolution: int | None
    """Side in pixels of the square that is trained on; automatic: the base model's own size."""
    aspect_ratio_buckets: bool | None
    """Train photos in shapes near their own, of the area of a square of --resolution and at most about 2:1, instead of cutting squares."""
    center_crop: bool | None
    """Cut the middle of a photo that does not have the trained shape, instead of random parts of it."""
    random_flip: bool | None
    """Also show pictures mirrored. Not for subjects with writing or a parting."""
    crops_per_photo: int | None
    """How many random crops of a picture that does not have the trained shape there are to draw from."""
    cache_latents: bool | None
    """Run the VAE once per crop and not in every step; needs memory for the latents of all pictures."""
    image_interpolation_mode: Literal["lanczos", "bicubic", "bilinear", "nearest", "box", "hamming"] | None
    """Filter for making pictures smaller or larger."""
    with_prior_preservation: bool | None
    """Add the prior's term to the loss (Eq. 2); automatic: on where there is a class noun."""
    class_data_dir: str | Path | None
    """Folder of class images; drawn into it when there are too few. Left out, a cache that all runs share."""
    num_class_images: int | None
    """How many class images to train with."""
    sample_batch_size: int | None
    """Pictures drawn at a time; halved by itself when memory runs out."""
    prior_stages: list[str | Path] | tuple[str | Path, ...] | str | None
    """For a later stage of a cascade: the untuned stages before it, which draw what it makes class images of."""
    prior_generation_precision: Literal["no", "fp32", "fp16", "bf16"] | None
    """Precision in which class images are drawn; automatic: that of the training."""
    prior_scheduler: str | Path | None
    """Sampler of the class images: ancestral, as the paper asks, and of second order; so is ddim, of first order, in 50 steps."""
    prior_eta: float | None
    """Noise put back at each step of DDIM: 1 is ancestral, 0 deterministic."""
    prior_inference_steps: int | None
    """Steps of that sampler."""
    prior_guidance_scale: float | None
    """Guidance of the class images; small models want less (2), or they learn their own exaggeration."""
    method: str | Path | None
    """How the model learns the subject. full: Every weight of the denoiser learns; the result is a whole pipeline. lora: Small matrices beside the frozen weights learn; a small file for diffusers, and for SD and SDXL one for ComfyUI and A1111. textual_inversion: One new word learns, in every text encoder; the result is a few vectors that diffusers, ComfyUI and A1111 load. custom_diffusion: Keys and values of cross-attention learn, and a new word: 5 % of a UNet; diffusers loads the result. loha: The elementwise product of two small pairs of matrices learns beside the frozen weights; PEFT loads the result. lokr: The Kronecker product of two small matrices learns beside the frozen weights, the smallest file of all; PEFT loads the result. oft: A rotation of the frozen weights' inputs learns; PEFT loads the result."""
    lora_layers: str | Path | None
    """Names of the denoiser's layers to change, with commas between; automatic: its attention's projections."""
    rank: int | None
    """Rank r of the update B A. More can be learned, and the file grows in proportion."""
    lora_alpha: float | None
    """The update counts lora_alpha / rank; automatic: the rank, so that the factor is 1."""
    lora_dropout: float | None
    """Share of a layer's inputs that LoRA does not see in a step."""
    use_dora: bool | None
    """Learn each output row's length apart from its direction (DoRA): more faithful at low rank, slower."""
    placeholder_token: str | Path | None
    """The new word, which [V] stands for; automatic: --identifier in angle brackets, or `<my-dog>` for the class noun dog."""
    initializer_token: str | Path | None
    """Where the new word starts: its vectors are this word's tokens, in turn. Left out, the last word of the class noun."""
    num_vectors: int | None
    """Vectors of the new word in each text encoder. More can be learned, and prompts are followed less well."""
    keep_embedding_norm: bool | None
    """Keep each vector as long as it was at the start: a longer one drowns the rest of the prompt."""
    prompt_templates: bool | None
    """Show photos with the original's 27 prompts ("a good photo of a [V]" ...), one drawn each time; off, with the instance prompt."""
    decompose_factor: int | None
    """Side of the smaller factor; -1 makes both as equal as the layer allows, a small number learns more."""
    oft_blocks: int | None
    """Blocks of the rotation in each layer, or the nearest number that divides its inputs: fewer can learn more. The paper has 4."""
    prior_loss_weight: float | None
    """Weight lambda of the prior's term in Eq. 2 of the paper, which uses 1."""
    snr_gamma: float | None
    """Min-SNR weighting with this gamma (Hang et al. 2023 use 5), each picture by its own timestep; automatic: none. Not for flows."""
    offset_noise: float | None
    """Strength of noise that is constant over each channel, which lets pictures become darker and brighter. Alone it means 0.1."""
    weighting_scheme: Literal["none", "sigma_sqrt", "logit_normal", "mode", "cosmap"] | None
    """For flows: which times are trained more (logit_normal, mode) or count more (sigma_sqrt, cosmap); none is uniform."""
    logit_mean: float | None
    """Mean of the logit-normal draw of times; above 0 trains low noise."""
    logit_std: float | None
    """Standard deviation of the logit-normal draw of times."""
    mode_scale: float | None
    """Scale of the mode draw of times."""
    flow_shift: float | Literal["dynamic"] | None
    """For flows: by how much the times that are trained are shifted towards noise, 1 being not at all, or `dynamic` for what the model's scheduler shifts pictures of this size by; automatic: as its scheduler trains. kohya's --discrete_flow_shift."""
    train_guidance_scale: float | None
    """For guidance-distilled flows (FLUX.1 dev): the network's guidance input while it trains; diffusers' `--guidance_scale`."""
    min_timestep: int | None
    """Train from this timestep on only, as the model's own scheduler counts them (0 to 999 for most; kohya's flag)."""
    max_timestep: int | None
    """Train below this timestep only: the noisiest steps, which lay a picture out, stay the base model's. A weighting_scheme's density is squeezed into the range."""
    noise_augmentation: list[float] | tuple[float, ...] | str | None
    """For stages that see a smaller picture: variance of the noise on it, which the network is told; of two, any in between. Left out, the least that the model knows, which keeps the subject's fine detail."""
    class_labels_conditioning: Literal["timesteps"] | None
    """For DeepFloyd IF's stage II, as diffusers' script trains it: the noisy picture stands in the small one's place, its time in the level's. For comparisons."""
    masked_loss: bool | None
    """Compare pictures where the subject is, by --mask_dir or the photos' transparency; the background teaches nothing."""
    optimizer: Literal["adamw", "prodigy"] | None
    """adamw, or prodigy, which finds its learning rate by itself (give it --learning_rate 1)."""
    learning_rate: float | None
    """Learning rate of the denoiser. Full fine-tuning wants 1e-6 ... 5e-6, LoRA about 1e-4."""
    text_encoder_lr: float | None
    """Learning rate of the text encoder; automatic: the denoiser's."""
    scale_lr: bool | None
    """Multiply the learning rate by pictures per step: batch size x accumulation x processes."""
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"] | None
    """How the learning rate changes over the run."""
    lr_warmup_steps: int | None
    """Steps in which the rate grows from 0, for the schedules that warm up (all but constant)."""
    lr_num_cycles: int | None
    """Hard restarts of cosine_with_restarts."""
    lr_power: float | None
    """Power of the polynomial schedule."""
    use_8bit_adam: bool | None
    """Keep Adam's state in 8 bits (bitsandbytes): a quarter of the memory."""
    adam_beta1: float | None
    """Decay of the first moment."""
    adam_beta2: float | None
    """Decay of the second moment."""
    adam_weight_decay: float | None
    """Decoupled weight decay."""
    adam_epsilon: float | None
    """Added to the second moment's root."""
    prodigy_beta3: float | None
    """Prodigy: decay of its step size estimate; automatic: the root of beta2."""
    prodigy_decouple: bool | None
    """Prodigy: decouple the weight decay, as AdamW does."""
    prodigy_use_bias_correction: bool | None
    """Prodigy: Adam's bias correction."""
    prodigy_safeguard_warmup: bool | None
    """Prodigy: leave warm-up out of its step size estimate."""
    max_grad_norm: float | None
    """Longest gradient, over everything that learns; a longer one is scaled down to it. 0: none is."""
    train_text_encoder: bool | None
    """Train the text encoder too: more faithful, above all for faces, and more memory."""
    pre_compute_text_embeddings: bool | None
    """Run the text encoder once per prompt. Always so while it does not learn; only its contradiction is checked."""
    tokenizer_max_length: int | None
    """Tokens that a prompt is padded or cut to; automatic: the tokenizer's own length."""
    text_encoder_use_attention_mask: bool | None
    """Let the text encoder attend to real tokens only, not at padding (Stable Diffusion alone)."""
    max_train_steps: int | None
    """Steps in all; automatic: as many as --num_train_epochs makes."""
    num_train_epochs: int | None
    """Times that every photo is shown, where --max_train_steps is not given."""
    train_batch_size: int | None
    """Photos of a step, or of each of its parts, per process; with prior preservation as many class images join them."""
    gradient_accumulation_steps: int | None
    """Parts that a step is computed in: the same result as one large batch, with the memory of a part."""
    gradient_checkpointing: bool | None
    """Compute activations twice instead of keeping them: much less memory, about a quarter slower."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None
    """Precision of the arithmetic; weights that learn stay in float32."""
    base_weights: Literal["bf16", "fp8", "int8", "nf4"] | None
    """How the base model's frozen weights are kept, in denoiser and text encoders, while something small learns beside them: nf4 takes 0.56 bytes each, int8 (the finer) and fp8 1, bf16 2. They are unpacked to compute, so slower; automatic: as the arithmetic's."""
    seed: int | None
    """Decides every draw; automatic: one is chosen and recorded."""
    deterministic: bool | None
    """Use only deterministic kernels, so that GPU runs repeat bit for bit; slower."""
    allow_tf32: bool | None
    """Let float32 matrix work use TF32 on NVIDIA GPUs: faster, a little less exact."""
    use_ema: bool | None
    """Keep a moving average of the weights; previews and the output then hold the average."""
    ema_decay: float | None
    """Highest decay of that average; it grows from (1 + step) / (10 + step)."""
    log_interval: int | None
    """Steps between two readings of the numbers from the device."""
    device: str | Path | None
    """cpu, cuda, cuda:1, mps ...; automatic: the accelerator of this machine."""
    fit: str | Path | None
    """Choose the cheapest settings with which the training fits the device, or memory of a size (12GB), and say what they cost: gradient checkpointing, an optimizer of 8 bits, bfloat16, base weights of 8 or 4 bits or in RAM, smaller parts. A run that goes on keeps them."""
    fit_check: bool | None
    """Stop before anything is loaded when the plan says that the device has too little memory (`dreambooth plan`)."""
    checkpointing_steps: int | None
    """Steps between two checkpoints; automatic: one at each quarter of the run and ten minutes after the last: `kill -9` loses no more."""
    checkpoints_total_limit: int | None
    """Newest checkpoints to keep, beside the best by --evaluate_every; automatic: 2, and with --checkpointing_steps all of them."""
    resume_from_checkpoint: str | Path | None
    """Go on from `latest` or from a checkpoint-N by name, bit for bit."""
    allow_changed_settings: bool | None
    """Resume although other settings than --max_train_steps have changed."""
    verify: bool | None
    """Hold the bytes of a checkpoint against their digests before going on from it."""
    attention_backend: Literal["native", "_native_math", "_native_efficient", "_native_flash", "_native_cudnn", "flash", "_flash_3", "xformers"] | None
    """Kernel of the denoiser's attention, by diffusers' names: torch's of one kind (_native_...), or another package's. Stable Diffusion has native alone. Automatic: native, of which torch takes the fastest that the device has."""
    group_offload: bool | None
    """Keep the frozen weights of denoiser and text encoders in RAM, and bring them to the GPU block by block, the next one while one is computed: far less of its memory, and slower. It needs --gradient_checkpointing. Not run on a GPU yet."""
    fsdp: int | None
    """Hold a transformer denoiser together, by so many processes (`torchrun --nproc_per_node 4 -m dreambooth train --fsdp 4 ...`): each GPU has its share of the weights, and a block is gathered while it is computed (FSDP2). Automatic: as `accelerate launch --use_fsdp --fsdp_version 2` says, else each has the whole model. Not run on GPUs yet."""
    torch_compile: bool | None
    """Compile the denoiser for its updates by torch.compile: fewer and larger kernels, after minutes of compiling that long runs on a GPU are worth. Pictures are drawn without."""
    fused_backward_pass: bool | None
    """Full fine-tuning: step each tensor within the backward pass and let its gradient go, so that none are kept (4 bytes a weight). The same result; it needs --max_grad_norm 0, as clipping must see all of them, and --gradient_accumulation_steps 1."""
    validation_prompt: str | Path | None
    """Prompt of the pictures drawn every --validation_steps; [V] stands for the identifier."""
    validation_images: list[str | Path] | tuple[str | Path, ...] | str | None
    """For a stage that makes small pictures large: those to draw from, one drawing of each; automatic: the photos made small."""
    validation_negative_prompt: str | Path | None
    """What those pictures should not show."""
    num_validation_images: int | None
    """How many pictures are drawn each time."""
    validation_steps: int | None
    """Steps between two drawings; automatic: 100."""
    validation_epochs: int | None
    """Epochs between two drawings, instead of --validation_steps."""
    validation_min_steps: int | None
    """No drawing before this step."""
    validation_scheduler: str | Path | None
    """Sampler of those pictures, as `generate --scheduler` names them."""
    validation_inference_steps: int | None
    """Steps of that sampler."""
    validation_guidance_scale: float | None
    """Guidance of those pictures."""
    validation_seed: int | None
    """Seed of the first picture; the next ones count up. The same in every drawing, so that progress can be seen."""
    skip_final_inference: bool | None
    """Do not draw the contact sheet at the end."""
    evaluate_every: int | None
    """Steps between two evaluations on held-out prompts: DINO, CLIP-T, PRES and DIV over time, and at the end the best checkpoint."""
    evaluation_share: float | None
    """Largest share of the time that evaluation passes may take; one that would exceed it is left out."""
    stop_early: bool | None
    """Stop when the evaluation passes give no hope of a better checkpoint."""
    keep_best: bool | None
    """Make the best checkpoint the result: it is what the run's folder holds and what is drawn at the end, not the last weights."""
    dino_encoder: str | Path | None
    """DINO: a transformers ViT (or DINOv2, ResNet) folder or Hub id; automatic: the toybox's for a toybox run, else facebook/dino-vits16. `none` leaves DINO and PRES out."""
    clip_encoder: str | Path | None
    """CLIP: a transformers CLIP folder or Hub id; automatic: the toybox's, else openai/clip-vit-base-patch32. `none` leaves CLIP-I and CLIP-T out."""
    lpips_encoder: str | Path | None
    """Perceptual distance for DIV: an LPIPS folder; automatic: the toybox's, else that of `dreambooth encoders get lpips`."""
    dinov2_encoder: str | Path | None
    """DINOv2: a transformers folder or Hub id, such as facebook/dinov2-base, for a score beside DINO's; automatic: none."""
    siglip_encoder: str | Path | None
    """SigLIP: a transformers folder or Hub id, such as google/siglip-base-patch16-224, for a score beside CLIP-I; automatic: none."""
    output_dir: str | Path | None
    """Folder of the run; automatic: dreambooth-model or lora-dreambooth-model."""
    overwrite_output_dir: bool | None
    """Train although the folder holds an earlier run, whose checkpoints are then deleted."""
    logging_dir: str | Path | None
    """Folder below the run's for trackers."""
    report_to: list[Literal["tensorboard", "wandb", "none"]] | tuple[Literal["tensorboard", "wandb", "none"], ...] | str | None
    """Trackers beside metrics.jsonl, which is always written: tensorboard, wandb."""
    push_to_hub: bool | None
    """Upload the result and its last pictures to the Hub when the run is done; never the photos, nor what names this machine."""
    hub_token: str | None
    """Token for the Hub; automatic: HF_TOKEN or that of `hf auth login`, which no list of processes shows. It is never written to disk."""
    hub_model_id: str | Path | None
    """Name on the Hub; automatic: the folder's."""
    hub_private: bool | None
    """Make the model private on the Hub."""
    skip_save_text_encoder: bool | None
    """Leave the text encoder out of the saved pipeline."""
    output_kohya_format: bool | None
    """Write a second LoRA file in kohya's names, the only ones in which ComfyUI and A1111 know a UNet's layers (SD, SDXL); automatic: it is written, but not with DoRA, on whose names they do not agree, nor with --preset diffusers."""
    preset: Literal["recipe", "diffusers"] | None
    """Where values come from that are left out: the base model's recipe, or the defaults of diffusers' scripts."""
    trust_code: bool | None
    """Import the code that a file of settings names as its method (package.module:Class). It runs on this machine: for files you trust."""

class GenerateKeywords(TypedDict, total=False):
    prompts: str | Path | None
    """Text file with one prompt a line."""
    then: list[str | Path] | tuple[str | Path, ...] | str | None
    """Models that make the pictures larger, in their order: what RUN may be, for the later stages of a cascade."""
    from_folder: str | Path | None
    """Folder of small pictures that RUN, a later stage, makes large: instead of a stage before it. One drawing of each, or --num_images."""
    noise_augmentation: float | None
    """Variance of the noise on the small pictures of later stages; automatic: as each was trained, which is best."""
    negative_prompt: str | Path | None
    """What the pictures should not show."""
    num_images: int | None
    """Pictures of each prompt."""
    grid: str | Path | None
    """Rows and columns of one labelled sheet: two of prompt, seed, guidance_scale, num_inference_steps, checkpoint, lora_scale."""
    grid_values: list[str | Path] | tuple[str | Path, ...] | str | None
    """Values of an axis where they are not the usual ones: lora_scale=0.5,1 checkpoint=100,best."""
    seed: int | None
    """Seed of each prompt's first picture; the next ones count up."""
    batch_size: int | None
    """Pictures drawn at a time; halved by itself when memory runs out."""
    output_dir: str | Path | None
    """Folder of the pictures; automatic: RUN/samples/generated (one below it for a checkpoint), else ./generated, beside what is there."""
    lora: str | Path | None
    """A LoRA file or folder, or RUN@300 or RUN@best, to put on the model."""
    identifier: str | Path | None
    """What [V] stands for, where the model does not say."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None
    """Precision of the arithmetic; automatic: that of the run."""
    device: str | Path | None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    variant: str | Path | None
    """Variant of a pipeline's weight files, such as fp16; a run knows its own."""
    revision: str | Path | None
    """Branch, tag or commit of a Hub model; a run knows its own."""
    single_file_config: str | Path | None
    """For a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool | None
    """Also load weights saved as pickles. A pickle can run any code: only for files you trust."""
    safety_checker: bool | None
    """Run the base model's safety checker, where it has one; pictures that it objects to are black."""
    verify: bool | None
    """Hold the bytes of a run's weights against their digests while they are loaded."""
    num_inference_steps: int | None
    """Steps of the sampler. More is slower and, past about 30, hardly better."""
    guidance_scale: float | None
    """How strongly the prompt counts (classifier-free guidance); 1 is no guidance. FLUX.1 dev takes about 3.5 as an input."""
    scheduler: str | Path | None
    """Sampler: a diffusers scheduler's name, or ddim, ddpm, dpm++, dpm++_sde, euler, euler_a, unipc, pndm, lms, heun. Flows keep their own."""
    eta: float | None
    """Noise put back at each step by DDIM: 0 is deterministic, 1 ancestral."""
    height: int | None
    """Height of the pictures in pixels; automatic: the model's own size (for a run: the size it was trained at)."""
    width: int | None
    """Width of the pictures in pixels; automatic: as height."""

class EvaluateKeywords(TypedDict, total=False):
    num_images: int | None
    """Pictures of each prompt."""
    num_prompts: int | None
    """Prompts, spread evenly over the list; automatic: all of them."""
    prompt_list: Literal["auto", "object", "live", "toybox"] | None
    """DreamBench's 25 prompts for objects or live subjects, or those that the toybox can show; auto goes by class noun and base model."""
    applications: list[Literal["recontextualisation", "art_rendition", "novel_view", "property_modification", "accessorisation", "expression", "comics"]] | tuple[Literal["recontextualisation", "art_rendition", "novel_view", "property_modification", "accessorisation", "expression", "comics"], ...] | str | None
    """The paper's applications instead of DreamBench's list."""
    prompts: str | Path | None
    """Text file with one prompt a line instead of DreamBench's list; [V] stands for the subject's identifier."""
    seed: int | None
    """Seed of each prompt's first picture (the next ones count up), and of the bootstrap."""
    class_samples: int | None
    """Pictures of the class alone, seeds 0, 1 ..., for PRES and for the class's diversity; 0 leaves both out."""
    untuned: bool | None
    """Draw the same with the untuned model; without it there is no verdict."""
    class_noun: str | Path | None
    """What the subject is; automatic: as in the run."""
    identifier: str | Path | None
    """What [V] stands for; automatic: as in the run."""
    instance_data_dir: str | Path | None
    """Folder of the subject's photos; automatic: as in the run."""
    output_dir: str | Path | None
    """Folder of scores, report and pictures; automatic: the run's own, and RUN/evaluation/checkpoint-N for a checkpoint."""
    batch_size: int | None
    """Pictures drawn at a time; halved by itself when memory runs out."""
    lora: str | Path | None
    """A LoRA file or folder, or RUN@300 or RUN@best, to put on the model; the untuned model goes without it."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None
    """Precision of the drawing; automatic: that of the run."""
    device: str | Path | None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    single_file_config: str | Path | None
    """For a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool | None
    """Also load a base model's weights saved as pickles. A pickle can run any code: only for files you trust."""
    verify: bool | None
    """Hold the bytes of a run's weights against their digests while they are loaded."""
    dino_encoder: str | Path | None
    """DINO: a transformers ViT (or DINOv2, ResNet) folder or Hub id; automatic: the toybox's for a toybox run, else facebook/dino-vits16. `none` leaves DINO and PRES out."""
    clip_encoder: str | Path | None
    """CLIP: a transformers CLIP folder or Hub id; automatic: the toybox's, else openai/clip-vit-base-patch32. `none` leaves CLIP-I and CLIP-T out."""
    lpips_encoder: str | Path | None
    """Perceptual distance for DIV: an LPIPS folder; automatic: the toybox's, else that of `dreambooth encoders get lpips`."""
    dinov2_encoder: str | Path | None
    """DINOv2: a transformers folder or Hub id, such as facebook/dinov2-base, for a score beside DINO's; automatic: none."""
    siglip_encoder: str | Path | None
    """SigLIP: a transformers folder or Hub id, such as google/siglip-base-patch16-224, for a score beside CLIP-I; automatic: none."""
    num_inference_steps: int | None
    """Steps of the sampler. More is slower and, past about 30, hardly better."""
    guidance_scale: float | None
    """How strongly the prompt counts (classifier-free guidance); 1 is no guidance. FLUX.1 dev takes about 3.5 as an input."""
    scheduler: str | Path | None
    """Sampler: a diffusers scheduler's name, or ddim, ddpm, dpm++, dpm++_sde, euler, euler_a, unipc, pndm, lms, heun. Flows keep their own."""
    eta: float | None
    """Noise put back at each step by DDIM: 0 is deterministic, 1 ancestral."""
    height: int | None
    """Height of the pictures in pixels; automatic: the model's own size (for a run: the size it was trained at)."""
    width: int | None
    """Width of the pictures in pixels; automatic: as height."""
