"""What preview, plan and train ask alike: each option is declared here, once, so that all three mean the same by it."""

from __future__ import annotations

from typing import Annotated

import typer

DATA = "A file to upload, or a dataset's name or id."

Data = Annotated[str, typer.Option("--data", help=DATA)]
Evaluation = Annotated[
    str | None, typer.Option("--eval", help="The same, to score on; else a part of the data is held out.")
]
Base = Annotated[
    str | None,
    typer.Option("--model", help="Base model; left out, the first whose weights are here.", show_default=False),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", help="sft, pretrain, classify, mask or dpo; left out, what suits the data.", show_default=False
    ),
]
MaxLength = Annotated[int | None, typer.Option("--max-length", help="Longest row in tokens.", show_default=False)]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the data.", show_default=False)]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate.", show_default=False)]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Examples per step.", show_default=False)]
AdapterName = Annotated[
    str | None,
    typer.Option(
        "--adapter", help="lora, full or qlora (NVIDIA GPUs); left out, what suits the method.", show_default=False
    ),
]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", help="End after so many steps.", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any further hyperparameter, as name=value.", show_default=False)
]
ExecutorName = Annotated[str | None, typer.Option("--executor", help="auto, local or simulation.", show_default=False)]
