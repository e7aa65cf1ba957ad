from .inference import Prediction as Prediction
from .runs import Run as Run
