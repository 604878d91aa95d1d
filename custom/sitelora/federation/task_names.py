"""What a federation asks of a site, by the names that NVFlare calls tasks; a `Task` is something else."""

BEGIN, TRAIN, EVALUATE = "begin", "train", "evaluate"
TASKS = (BEGIN, TRAIN, EVALUATE)
