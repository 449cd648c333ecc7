"""How far an experiment is, in a bar and in a line of words."""

from __future__ import annotations

import streamlit as st
from slm_client import ExperimentDetail, Progress

from components import words

_PHASES = {
    "loading": "loading the model",
    "preparing": "reading the rows",
    "training": "training",
    "evaluating": "scoring",
    "saving": "saving",
    "downloading": "downloading",
    "converting": "converting",
}


def draw(experiment: ExperimentDetail) -> None:
    """Of one that has not ended."""
    if experiment.status == "created":
        st.caption(waiting(experiment))
        return
    st.progress(share(experiment.progress), text=line(experiment.progress))


def waiting(experiment: ExperimentDetail) -> str:
    """Why it does not run yet."""
    place = experiment.queue_position
    if not place:
        return "Starts in a moment."
    return "Next in the queue." if place == 1 else f"Waits: {place - 1} before it in the queue."


def share(progress: Progress | None) -> float:
    """Of the phase that is under way, from 0 to 1."""
    if progress is None:
        return 0.0
    if progress.phase not in (None, "training") and progress.total:
        return min(1.0, (progress.done or 0) / progress.total)
    return min(1.0, max(0.0, (progress.percent or 0) / 100))


def line(progress: Progress | None) -> str:
    """`training: step 30 of 60 · loss 0.84 · 210 tokens/s · 1 min 35 s left`; only what is known."""
    if progress is None or (progress.phase is None and progress.step is None):
        return "starting"
    phase = progress.phase or "training"
    parts = []
    if phase == "training" and progress.step is not None:
        of = f" of {progress.total_steps:,}" if progress.total_steps else ""
        parts.append(f"step {progress.step:,}{of}")
        if progress.loss is not None:
            parts.append(f"loss {words.number(progress.loss)}")
        if progress.tokens_per_second:
            parts.append(f"{words.count(progress.tokens_per_second)} tokens/s")
        if progress.eta_seconds is not None:
            parts.append(f"{words.duration(progress.eta_seconds)} left")
    elif progress.total:
        parts.append(f"{progress.done or 0:,} of {progress.total:,}")
    name = _PHASES.get(phase, phase)
    return f"{name}: {' · '.join(parts)}" if parts else name
