"""Many runs: phases, sweeps, progress, and estimates of disk space and time."""
