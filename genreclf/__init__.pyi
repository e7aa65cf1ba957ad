from .data import Store as Store
from .data import StoreDataModule as StoreDataModule
from .evaluation import Model as Model
from .evaluation import Prediction as Prediction
from .evaluation import Run as Run
from .evaluation import Runs as Runs
from .evaluation import load as load
from .evaluation import read_runs as read_runs
from .training import Classifier as Classifier

__version__: str
