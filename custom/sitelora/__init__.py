"""SiteLoRA: one foundation model, adapted at every hospital, without moving an image."""

__version__ = "0.1.0"
