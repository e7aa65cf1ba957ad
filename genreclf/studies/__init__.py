"""Many runs: phases, sweeps, progress, and estimates of time."""
