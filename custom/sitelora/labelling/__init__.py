"""A MONAI Label server of exported models: judged before it starts, one URL, nothing of it known to training."""
