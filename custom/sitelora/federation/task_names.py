"""Names of the tasks, which both ends share."""

BEGIN, TRAIN, EVALUATE = "begin", "train", "evaluate"
TASKS = (BEGIN, TRAIN, EVALUATE)
