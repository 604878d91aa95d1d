"""The foundation models as volume networks, and how their checkpoints are loaded."""
