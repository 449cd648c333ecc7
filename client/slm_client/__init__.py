"""The typed client of the SLM Training Platform.

from slm_client import Client

with Client() as client:
    tickets = client.datasets.upload("tickets.csv")
    base = client.models.list(model_type="base")[0]
    experiment = client.experiments.create("Tickets", base_model_id=base.id, training_dataset_id=tickets.id)
    print(client.experiments.wait(experiment.id).status)
"""

from slm_client.answers import (
    ENDED,
    Answer,
    Checkpoint,
    Curve,
    Dataset,
    DatasetDetail,
    Evaluation,
    EvaluationDetail,
    Event,
    Experiment,
    ExperimentDetail,
    Fault,
    Faults,
    Log,
    Model,
    ModelDetail,
    Origin,
    Progress,
    Reproduction,
    Row,
    Run,
    RunError,
    Sample,
)
from slm_client.chat import ChatAnswer, ChatEvent, SideAnswer
from slm_client.client import DEFAULT_URL, Client
from slm_client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    NotTheService,
    ServiceFault,
    ServiceUnreachable,
    SlmError,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from slm_client.exports import Export, ExportFile, Lineage, LineageEdge, LineageNode, SelfTest
from slm_client.plans import Figure, Piece, Plan, Preview, PreviewExample
from slm_client.relay import Relay, Relayed
from slm_client.system import Executor, System

__all__ = [
    "DEFAULT_URL",
    "ENDED",
    "Answer",
    "ApiError",
    "BadRequest",
    "ChatAnswer",
    "ChatEvent",
    "Checkpoint",
    "Client",
    "Conflict",
    "Curve",
    "Dataset",
    "DatasetDetail",
    "Evaluation",
    "EvaluationDetail",
    "Event",
    "Executor",
    "Experiment",
    "ExperimentDetail",
    "Export",
    "ExportFile",
    "Fault",
    "Faults",
    "FieldError",
    "Figure",
    "Forbidden",
    "Invalid",
    "Lineage",
    "LineageEdge",
    "LineageNode",
    "Log",
    "Model",
    "ModelDetail",
    "NotFound",
    "NotTheService",
    "Origin",
    "Piece",
    "Plan",
    "Preview",
    "PreviewExample",
    "Progress",
    "Relay",
    "Relayed",
    "Reproduction",
    "Row",
    "Run",
    "RunError",
    "Sample",
    "SelfTest",
    "ServiceFault",
    "ServiceUnreachable",
    "SideAnswer",
    "SlmError",
    "StorageFull",
    "System",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]
