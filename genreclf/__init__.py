"""Music genre classification experiments: audio files in, trained and reported models out.

The way of the data: file -> audio -> features -> store -> datamodule -> augmentation -> net ->
metrics -> result.json -> report. Each arrow has a module of that name.
"""
