"""Drawn data, the same bytes on every processor (our choice of anatomy and scanners): prostates, and beating hearts."""
