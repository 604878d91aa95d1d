"""The drawn prostate phantom, the same bytes on every processor (our choice of anatomy and scanners)."""
