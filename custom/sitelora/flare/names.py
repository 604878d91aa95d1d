"""Names that both ends, the simulator's runner and its readers share; imports nothing, so that they start at once."""

BEGIN, TRAIN, EVALUATE = "begin", "train", "evaluate"
TASKS = (BEGIN, TRAIN, EVALUATE)

SERVER = "server"
RESULT = "result.json"
EVENTS = "events.jsonl"
