"""The panels below a run's curves: what it reported, what its process wrote, checkpoints, settings, attempts."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from slm_client import Client, ExperimentDetail

from components import badges, comparison, history, standing, states, tables, words
from components.history import History

_SHOWN_EVENTS = 200
_LOG_LINES = 200
_Panel = Callable[[Client, ExperimentDetail, History], None]


def show(client: Client, experiment: ExperimentDetail, seen: History, names: dict[str, str]) -> None:
    """The panel that the address names; the others are not asked for."""
    panels: dict[str, _Panel] = {
        "Events": _events,
        "Log": _log,
        "Checkpoints": _checkpoints,
        "Settings": lambda *given: _settings(given[1], names),
        "Attempts": _attempts,
    }
    chosen = st.segmented_control(
        "Details", [*panels], default="Events", required=True, key="panel", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    panels[str(chosen)](client, experiment, seen)


def _events(_client: Client, _experiment: ExperimentDetail, seen: History) -> None:
    if not seen.events:
        states.empty("It has reported nothing yet.")
        return
    newest = seen.events[: -_SHOWN_EVENTS - 1 : -1]
    rows = [{"time": event.time, "event": event.type, "what": history.sentence(event)} for event in newest]
    columns = {
        "time": st.column_config.DatetimeColumn("When", format="distance", width="small"),
        "event": st.column_config.TextColumn("Event", width="small"),
        "what": st.column_config.TextColumn("What", width="large"),
    }
    tables.show(rows, key="events", columns=columns, file_name="events", most_rows=10)


def _log(client: Client, experiment: ExperimentDetail, _seen: History) -> None:
    log = client.experiments.logs(experiment.id, tail=_LOG_LINES)
    if not log.text:
        states.empty("Its process has written nothing.")
        return
    st.caption(f"The last {_LOG_LINES} lines of what its process wrote ({words.size(log.size_bytes)} in all).")
    st.code(log.text, language=None, height=320)


def _checkpoints(client: Client, experiment: ExperimentDetail, _seen: History) -> None:
    found = client.experiments.checkpoints(experiment.id)
    if not found:
        none = "A simulation keeps no checkpoints." if experiment.simulated else "There is no checkpoint yet."
        states.empty(none)
        return
    rows = [
        {
            "step": checkpoint.step,
            "best": "★ best" if checkpoint.best else "",
            "val_loss": checkpoint.val_loss,
            "size": words.size(checkpoint.size_bytes),
            "saved": checkpoint.created_at,
            "name": checkpoint.name,
        }
        for checkpoint in found
    ]
    columns = {
        "step": st.column_config.NumberColumn("Step", format="localized"),
        "best": "Best",
        "val_loss": st.column_config.NumberColumn("Validation loss", format="%.4g"),
        "size": "Size",
        "saved": tables.moment_column("Saved"),
        "name": "Folder",
    }
    tables.show(rows, key="checkpoints", columns=columns, file_name="checkpoints")


def _settings(experiment: ExperimentDetail, names: dict[str, str]) -> None:
    asked = {key for key, value in experiment.requested_config.items() if value is not None}
    rows = [
        {
            "setting": setting,
            "value": comparison.shown(value),
            "from": "asked for" if setting in asked else "default" if setting in experiment.training_config else "",
        }
        for setting, value in comparison.asked(experiment, names).items()
    ]
    columns = {"setting": "Setting", "value": "Value", "from": "Why"}
    tables.show(rows, key="settings", columns=columns, file_name="settings", most_rows=12)
    st.caption(words.plain(experiment.executor_reason))


def _attempts(client: Client, experiment: ExperimentDetail, _seen: History) -> None:
    rows = [
        {
            "attempt": run.attempt,
            "state": badges.words(run.state),
            "from_step": run.resumed_from_step,
            "started": run.started_at,
            "duration": tables.clock(standing.elapsed(run.started_at, run.finished_at)),
            "why": run.error.message if run.error is not None else "",
        }
        for run in client.experiments.runs(experiment.id)
    ]
    columns = {
        "attempt": "Attempt",
        "state": badges.column("State"),
        "from_step": st.column_config.NumberColumn("From step", format="localized"),
        "started": tables.moment_column("Started"),
        "duration": tables.clock_column("Took"),
        "why": st.column_config.TextColumn("Why it ended", width="large"),
    }
    tables.show(rows, key="attempts", columns=columns, file_name="attempts")
