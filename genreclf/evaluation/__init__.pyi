from .inference import Model as Model
from .inference import load as load
from .prediction import Prediction as Prediction
from .runs import Run as Run
from .runs import Runs as Runs
from .runs import read_runs as read_runs
