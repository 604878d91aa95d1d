"""What is inserted into the frozen network, and where: LoRA, bottleneck adapters; injecting and merging."""
