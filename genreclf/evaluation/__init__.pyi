from .inference import Model as Model
from .inference import Prediction as Prediction
from .inference import load as load
from .runs import Run as Run
from .runs import Runs as Runs
from .runs import read_runs as read_runs
