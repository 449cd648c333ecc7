"""System: what the service's machine can do, what is installed on it, and where to read on."""

from __future__ import annotations

import platform

import streamlit as st
from slm_client import System

import service
from components import documents, facts, pages, tables, words

FOLDERS = {"upload_dir": "Datasets", "data_dir": "Runs and models", "models_dir": "Weights of base models"}


def show() -> None:
    pages.header("System", lead="The machine that trains, what is installed on it, and how it is doing.")
    client = service.client()
    system = client.system()
    _machine(system)
    _executors(system)
    _storage(system)
    _versions(system, str(client.health().get("version", words.UNKNOWN)))
    _documents()


def _machine(system: System) -> None:
    hardware = system.hardware
    gpus = hardware.get("gpus") or []
    st.header("Machine", anchor=False)
    facts.show(
        {
            "Processor": _text(hardware.get("processor")),
            "Cores": _cores(hardware.get("physical_cores"), hardware.get("logical_cores")),
            "Memory": words.memory(hardware.get("memory_bytes")),
            "GPU": _text(", ".join(map(str, gpus)) or "none"),
            "System": _text(hardware.get("system")),
        }
    )
    st.caption(f"Trainings compute in {words.plain(system.precision)}.")


def _executors(system: System) -> None:
    st.header("Ways to train", anchor=False)
    if not system.executors:
        st.caption("The service does not say which it has.")
    for executor in system.executors:
        with st.container(horizontal=True, vertical_alignment="center", key=f"executor_{executor.name}"):
            if executor.available:
                st.badge("available", icon=":material/check_circle:", color="green")
            else:
                st.badge("not available", icon=":material/block:", color="gray")
            why = "" if executor.available else f": {words.plain(executor.reason or 'no reason was given')}"
            st.markdown(f"**{words.plain(executor.name)}**{why}")


def _storage(system: System) -> None:
    st.header("Storage", anchor=False)
    places = st.columns(max(1, len(system.storage)))
    for (name, sizes), place in zip(system.storage.items(), places, strict=False):
        free, total = sizes.get("free_bytes", 0), sizes.get("total_bytes", 0)
        with place, st.container(border=True):
            st.markdown(f"**{words.plain(FOLDERS.get(name, name))}**")
            if "used_bytes" in sizes:
                st.markdown(f"{words.size(sizes['used_bytes'])} used")
            text = f"Disk: {words.size(free)} free of {words.size(total)}"
            st.progress(1 - free / total if total else 0.0, text=text)


def _versions(system: System, of_service: str) -> None:
    st.header("Versions", anchor=False)
    own = {"streamlit": st.__version__, "python (workbench)": platform.python_version()}
    here = {"service": of_service, **system.versions, **own}
    rows = [{"name": name, "version": version or "not installed"} for name, version in here.items()]
    tables.show(rows, key="versions", columns={"name": "Part", "version": "Version"}, file_name="versions")


def _documents() -> None:
    st.header("Read on", anchor="read")
    st.markdown(f"The API describes itself at [{service.address()}/docs]({service.address()}/docs).")
    titles = documents.titles()
    if not titles:
        return
    chosen = pages.pick("Documents", titles, name="doc", optional=True)
    if chosen:
        with st.container(border=True):
            st.markdown(documents.text(chosen))


def _text(value: object) -> str:
    return words.escaped(value) if value else words.UNKNOWN


def _cores(physical: int | None, logical: int | None) -> str:
    return words.count(physical) if physical == logical or not logical else f"{physical} ({logical} threads)"
