"""The commands of `genreclf`, one module each. Only this package uses Hydra."""
