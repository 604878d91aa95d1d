"""Names of SAM's tensors that share rules speak of (FLAP-SAM, arXiv:2407.21739: trained beside LoRA)."""

from __future__ import annotations

UPSCALING = "mask_decoder.output_upscaling.**"
HYPER_NETWORKS = "mask_decoder.output_hypernetworks_mlps.**"
MASK_TOKENS = "mask_decoder.mask_tokens.**"

HEADS: tuple[str, ...] = (UPSCALING, HYPER_NETWORKS, MASK_TOKENS)
"""Trained and shared beside the adapters: the paper names the first two, its code adds the third."""
