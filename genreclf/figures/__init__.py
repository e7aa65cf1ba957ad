"""Figures, drawn with matplotlib: curves, spectrograms, structures of networks."""
