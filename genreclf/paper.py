"""The values printed in the paper's Tables I to IX, and the genre each one really belongs to.

Accuracies and other shares are fractions, times are in seconds, sizes in bytes. The keys are the
values of the options in `conf/`.

The published scripts number the classes by FMA's genre ids, but print the results with genres in
alphabetical order. So the paper prints every result by genre under another genre's name; here each
genre has both names.
"""

from dataclasses import dataclass
from typing import NamedTuple

TEST_ACCURACY = 0.6365
TEST_TRACKS = 1700
ROWS = 8496  # 5,946 + 850 + 1,700
CLIPS = 8000


class Feature(NamedTuple):
    """A row of Table II."""

    printed: str
    dimensions: str
    size: float
    val_accuracy: float | None = None
    gap: float | None = None  # between training and validation accuracy


class Model(NamedTuple):
    """A row of Table III."""

    printed: str
    params: int
    seconds: float
    val_accuracy: float


class BatchSize(NamedTuple):
    """A row of Table IV."""

    val_accuracy: float
    seconds: float


class Scheduler(NamedTuple):
    """A row of Table V, which uses AdamW."""

    printed: str
    val_accuracy: float
    train_accuracy: float
    train_loss: float
    val_loss: float


class GridPoint(NamedTuple):
    """A row of Table VI."""

    val_accuracy: float
    beta2: float
    cnn_dropout: float
    classifier_dropout: float
    weight_decay: float


class Augmentation(NamedTuple):
    """A column of Table VII."""

    noise: float  # standard deviation; the unit is not stated
    shift: float  # maximum, in either direction
    masking: tuple[float, float]
    copies: int
    applied_to: str


class Enhancement(NamedTuple):
    """A row of Table VIII: the genre printed as Experimental, on the validation part."""

    printed: str
    true_positives: int
    recall: float
    f1: float
    val_accuracy: float


AUDIO = {  # Table I
    "format": "MP3",
    "sampling rate": "44,100 Hz",
    "bit rate": "360 kbit/s",
    "channels": "stereo",
    "duration": "30 s",
}
ORIGIN = Feature("Origin", "L × 1", 7.42e9)
FEATURES = {
    "mfcc": Feature("MFCC", "13 coefficients", 0.471e9, 0.5613, 0.0284),
    "chroma": Feature("MFCG (chroma)", "12 chroma bins", 1.42e9, 0.5437, 0.0775),
    "mel": Feature("Mel spectrogram", "128 × T", 4.44e9, 0.5635, 0.0509),
}
CONVENTIONAL_CNN = "> 1 million"  # parameters; dropped, not trained
MODELS = {
    "efficient_cnn": Model("Efficient CNN", 16456, 720, 0.5259),
    "cnn_gru": Model("CNN-GRU", 39050, 757, 0.5635),
    "cnn_lstm": Model("CNN-LSTM", 46346, 775, 0.5565),
}
BATCH_SIZES = {  # None: out of GPU memory
    "16": BatchSize(0.5988, 42.3 * 60),
    "32": BatchSize(0.5835, 28.0 * 60),
    "48": BatchSize(0.5882, 28.2 * 60),
    "64": None,
}
LEARNING_RATE = 1e-3  # chosen from Fig. 3
ADAMW_GAIN = 0.0447  # in validation accuracy over Adam, Fig. 4
SCHEDULERS = {
    "none": Scheduler("without", 0.5835, 0.5920, 1.2356, 1.2002),
    "plateau": Scheduler("ReduceLROnPlateau", 0.5835, 0.6058, 1.1515, 1.1787),
}
GRID = (  # the best three of 54
    GridPoint(0.6047, 0.999, 0.2, 0.4, 0.03),
    GridPoint(0.6012, 0.999, 0.2, 0.3, 0.03),
    GridPoint(0.5965, 0.98, 0.3, 0.2, 0.02),
)
BASELINE = 0.5635  # of the grid: CNN-GRU of Table III, both dropouts 0.3
STANDARD = Augmentation(0.005, 0.10, (0.02, 0.05), 0, "all genres")
STRONG = Augmentation(0.01, 0.15, (0.05, 0.10), 1, "Experimental only")
ENHANCEMENT = {  # by oversampling factor
    "0": Enhancement("standard", 30, 0.28, 0.33, 0.6106),
    "1": Enhancement("strong", 48, 0.45, 0.48, 0.6271),
}
AVERAGES = (0.64, 0.64, 0.64)  # Table IX, both macro and weighted: precision, recall, F1


@dataclass(frozen=True)
class Genre:
    """One class of the paper, with its row of Table IX (final model, test part)."""

    printed: str  # the name in the report
    true: str  # what was trained and tested under that name
    precision: float
    recall: float
    f1: float
    support: int


GENRES = (  # by class number
    Genre("Electronic", "International", 0.68, 0.68, 0.68, 213),
    Genre("Experimental", "Pop", 0.44, 0.44, 0.44, 213),
    Genre("Folk", "Rock", 0.63, 0.65, 0.64, 213),
    Genre("Hip-Hop", "Electronic", 0.64, 0.71, 0.67, 212),
    Genre("Instrumental", "Folk", 0.70, 0.65, 0.68, 212),
    Genre("International", "Hip-Hop", 0.76, 0.80, 0.78, 212),
    Genre("Pop", "Experimental", 0.57, 0.56, 0.56, 213),
    Genre("Rock", "Instrumental", 0.66, 0.59, 0.63, 212),
)
CLASSES = tuple(genre.true for genre in GENRES)  # of the published weights, by number
BY_TRUE_NAME = {genre.true: genre for genre in GENRES}
