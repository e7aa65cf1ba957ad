from .attentive import AttentiveCNN as AttentiveCNN
from .layers import count_parameters as count_parameters
from .layers import get_min_size as get_min_size
from .paper import CNNRNN as CNNRNN
from .paper import ConventionalCNN as ConventionalCNN
from .paper import EfficientCNN as EfficientCNN
from .svm import SVM as SVM
