"""What a user types: one module for each command, the only place that knows Hydra."""
