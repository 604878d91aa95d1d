"""Vision transformers that classify: CineMA's for cine volumes, timm's for pictures."""
