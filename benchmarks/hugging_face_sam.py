"""SAM of transformers with peft's LoRA, as a contender of `step.py`; only where both are installed.

    python -m pip install transformers peft

Neither is needed by SiteLoRA: `make bench` installs them into an environment of their own.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

AVAILABLE = all(find_spec(name) for name in ("transformers", "peft"))


def hugging_face(size: int, *, rank: int, autocast: bool) -> nn.Module:
    """Return ViT-B SAM at ``size`` px with LoRA of ``rank`` on qkv, q and v, and the heads that `step.py` trains."""
    from peft import LoraConfig, get_peft_model
    from transformers import SamConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    config = SamConfig(
        vision_config=SamVisionConfig(image_size=size).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(image_size=size, image_embedding_size=size // 16).to_dict(),
    )
    adapted = get_peft_model(SamModel(config), LoraConfig(r=rank, target_modules=["qkv", "q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if any(part in name for part in ("mask_decoder.upscale_", "output_hypernetworks_mlps", "mask_tokens")):
            parameter.requires_grad_(True)
    return _TwoMasks(adapted, autocast=autocast)


class _TwoMasks(nn.Module):
    """Its first two masks at full size, as background and one class; weights in fp32."""

    def __init__(self, adapted: nn.Module, *, autocast: bool) -> None:
        super().__init__()
        self.adapted, self.autocast = adapted, autocast

    def forward(self, pixels: Tensor) -> Tensor:
        size = pixels.shape[-2:]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            found = self.adapted(pixel_values=pixels.expand(-1, 3, -1, -1), multimask_output=True).pred_masks
        return functional.interpolate(found[:, 0, :2].float(), size=size, mode="bilinear", align_corners=False)
