"""Music genre classification: predict the genres of audio files, train your own models.

    import genreclf

    model = genreclf.load("tags")
    model.predict("song.mp3").genre

The public names are imported on first use, so `import genreclf` loads neither PyTorch nor NumPy.
Bad input raises `genreclf.errors.InputError`, whose message is one line.

How data flows: file -> audio -> features -> store -> split -> batches -> augmentation -> model ->
metrics -> result.json -> report.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("genreclf")
