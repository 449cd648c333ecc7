"""The rows. Importing this package registers every table on `database.Base.metadata`."""

from app.models.dataset import Dataset
from app.models.evaluation import Artifact, Evaluation
from app.models.experiment import Experiment
from app.models.model import Model
from app.models.run import Event, Run
from app.models.tombstone import Tombstone

__all__ = ["Artifact", "Dataset", "Evaluation", "Event", "Experiment", "Model", "Run", "Tombstone"]
