"""Why a run can fail: each reason has a stable code, whose fault it is, whether another attempt may help, and a hint.

RunFailure
├── UserFault     the data, the request: trying again changes nothing
└── SystemFault   the machine, an accident: another attempt may succeed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Reason:
    """One row of the catalogue of failures; `docs/troubleshooting.md` lists every code."""

    code: str
    fault: Literal["user", "system"]
    retryable: bool
    hint: str


REASONS: dict[str, Reason] = {
    reason.code: reason
    for reason in (
        Reason("nothing_to_learn", "user", False, "Check the column mapping, or raise max_length."),
        Reason("data_missing", "user", False, "Upload the dataset again and start a new experiment."),
        Reason("data_changed", "user", False, "The file differs from what was uploaded; upload it again."),
        Reason("data_unusable", "user", False, "Look at the dataset's faults, mend the file and upload it again."),
        Reason("weights_missing", "user", False, "Pull the base model's weights, then resume."),
        Reason("weights_refused", "user", False, "Only safetensors and GGUF weights are loaded."),
        Reason("model_unsupported", "user", False, "Choose a base model that this method can train."),
        Reason(
            "adapter_unavailable",
            "user",
            False,
            "Use adapter lora, or a machine with an NVIDIA GPU and bitsandbytes.",
        ),
        Reason("spec_invalid", "user", False, "Create the experiment again with this version of the platform."),
        Reason(
            "loss_not_finite", "user", False, "Lower learning_rate (a tenth is a good start), or look for broken rows."
        ),
        Reason(
            "out_of_memory",
            "system",
            True,
            "Lower max_length, set per_device_train_batch_size to 1, or use adapter lora.",
        ),
        Reason("disk_full", "system", True, "Free disk space on the data folder, then resume."),
        Reason("checkpoint_corrupt", "system", True, "The next older complete checkpoint is used; check the disk."),
        Reason(
            "process_died", "system", True, "The process ended without a word; see the log. Memory is the usual cause."
        ),
        Reason("silent", "system", True, "No sign of life for too long; see the log."),
        Reason(
            "interrupted",
            "system",
            True,
            "The process was asked to stop by the system; it resumes from its checkpoint.",
        ),
        Reason("directory_missing", "system", False, "The run's folder is gone; start a new experiment."),
        Reason(
            "offline",
            "system",
            False,
            "Connect to the network, or put the weights into models_dir and register the folder.",
        ),
        Reason("source_not_found", "user", False, "Check the name and the revision of the source."),
        Reason("source_forbidden", "user", False, "Accept the model's terms and set HF_TOKEN."),
        Reason(
            "digest_mismatch",
            "system",
            True,
            "The download differs from what was pinned; try again, and do not trust the source if it recurs.",
        ),
        Reason(
            "export_differs",
            "system",
            False,
            "The faulty files were removed; export in another format, and report this with the run's log.",
        ),
        Reason("simulated_failure", "system", False, "This failure was simulated; set simulated_failure_rate to 0."),
        Reason("unexpected", "system", True, "This is a defect of the platform: please report it with the log."),
    )
}


class RunFailure(Exception):
    """A run ends with `reason`; the message is one sentence for a person: what happened and where."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.reason = REASONS[code]
        self.message = message
        self.hint = hint or self.reason.hint

    def as_event(self) -> dict[str, Any]:
        """The payload of a `failed` event."""
        return {
            "code": self.reason.code,
            "message": self.message,
            "hint": self.hint,
            "fault": self.reason.fault,
            "retryable": self.reason.retryable,
        }


class Cancelled(Exception):
    """The run was asked to stop by its cancel marker."""

    def __init__(self, *, step: int = 0, checkpoint: str | None = None) -> None:
        super().__init__("cancelled")
        self.step = step
        self.checkpoint = checkpoint


class Interrupted(Exception):
    """SIGTERM without a cancel marker: the system wants the process gone; another attempt resumes."""
