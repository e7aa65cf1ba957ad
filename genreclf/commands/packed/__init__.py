"""`hydra/launcher=packed`: the runs of a sweep that share their batches train in one process."""
