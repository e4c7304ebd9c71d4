"""Video pipelines of `diffusers` in miniature: built from configuration with random weights, saved as users' are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

Model = TypeVar("Model", diffusers.UNet2DConditionModel, diffusers.UNet3DConditionModel)
PIXELS = 64
WIDTH = 8


def cogvideox() -> diffusers.DiffusionPipeline:
    return diffusers.CogVideoXPipeline(**_cogvideox_parts(channels=4))


def cogvideox_image_to_video() -> diffusers.DiffusionPipeline:
    return diffusers.CogVideoXImageToVideoPipeline(**_cogvideox_parts(channels=8))


def modelscope() -> diffusers.DiffusionPipeline:
    """ModelScope's text-to-video, as diffusers names it."""
    unet = _unet(diffusers.UNet3DConditionModel, "3D")
    return diffusers.TextToVideoSDPipeline(vae=_image_autoencoder(), unet=unet, scheduler=_ddim(), **_clip_text())


def animatediff() -> diffusers.DiffusionPipeline:
    return diffusers.AnimateDiffPipeline(
        vae=_image_autoencoder(),
        unet=_picture_unet(),
        motion_adapter=motion_adapter(),
        scheduler=_ddim(),
        **_clip_text(),
    )


def stable_diffusion() -> diffusers.DiffusionPipeline:
    """A pipeline of pictures: what a motion adapter is put into."""
    return diffusers.StableDiffusionPipeline(
        vae=_image_autoencoder(),
        unet=_picture_unet(),
        scheduler=_ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **_clip_text(),
    )


def motion_adapter() -> diffusers.MotionAdapter:
    return diffusers.MotionAdapter(
        block_out_channels=(WIDTH, WIDTH),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
    )


def wan() -> diffusers.DiffusionPipeline:
    autoencoder = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    config = UMT5Config(
        vocab_size=len(_characters()),
        d_model=WIDTH,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return diffusers.WanPipeline(
        tokenizer=_sentence_tokenizer(),
        text_encoder=UMT5EncoderModel(config).eval(),
        vae=autoencoder,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
    )


BUILDERS: dict[str, Callable[[], diffusers.DiffusionPipeline | diffusers.ModelMixin]] = {
    "cogvideox": cogvideox,
    "cogvideox-i2v": cogvideox_image_to_video,
    "modelscope": modelscope,
    "animatediff": animatediff,
    "wan": wan,
    "stable-diffusion": stable_diffusion,
    "motion-adapter": motion_adapter,
}


def save(name: str, folder: Path) -> Path:
    """The pipeline `name` with weights of a fixed seed, saved whole."""
    torch.manual_seed(sorted(BUILDERS).index(name))
    pipeline = BUILDERS[name]()
    with torch.no_grad():
        parts = [pipeline] if isinstance(pipeline, torch.nn.Module) else pipeline.components.values()
        for part in parts:
            # Weights as they are drawn leave videos nearly grey.
            for parameter in part.parameters() if isinstance(part, torch.nn.Module) else ():
                if parameter.dim() > 1:
                    parameter.mul_(1.5)
    pipeline.save_pretrained(folder)
    return folder


def _cogvideox_parts(channels: int) -> dict[str, object]:
    autoencoder = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(WIDTH,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=PIXELS // 8,
        sample_height=PIXELS // 8,
        sample_frames=17,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=False,
    )
    config = T5Config(
        vocab_size=len(_characters()),
        d_model=WIDTH,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return {
        "tokenizer": _sentence_tokenizer(),
        "text_encoder": T5EncoderModel(config).eval(),
        "vae": autoencoder,
        "transformer": transformer,
        "scheduler": diffusers.CogVideoXDDIMScheduler(),
    }


def _picture_unet() -> diffusers.UNet2DConditionModel:
    return _unet(diffusers.UNet2DConditionModel, "2D")


def _unet(kind: type[Model], suffix: str) -> Model:
    """One layer of each sort, for pictures or for videos."""
    return kind(
        sample_size=PIXELS // 8,
        block_out_channels=(WIDTH, WIDTH),
        layers_per_block=1,
        down_block_types=(f"CrossAttnDownBlock{suffix}", f"DownBlock{suffix}"),
        up_block_types=(f"UpBlock{suffix}", f"CrossAttnUpBlock{suffix}"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=2,
    )


def _image_autoencoder() -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(WIDTH,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=PIXELS,
    )


def _ddim() -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1
    )


def _clip_text() -> dict[str, object]:
    letters = _letters()
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens = {token: number for number, token in enumerate(vocabulary)}
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
    )
    return {
        "tokenizer": CLIPTokenizer(vocab=tokens, merges=[], model_max_length=77),
        "text_encoder": CLIPTextModel(config).eval(),
    }


def _sentence_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=_characters(), extra_ids=0, model_max_length=226)


def _characters() -> list[tuple[str, float]]:
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -2.0) for letter in ("▁", *_letters()))]


def _letters() -> list[str]:
    return [chr(code) for code in range(ord("!"), ord("~") + 1)]
