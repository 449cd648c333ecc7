"""The script that Streamlit runs for each visit: the frame, the menu, the page that the address names."""

from __future__ import annotations

import streamlit as st

from components import pages
from views import compare, datasets, evaluations, home, models, run, runs, system, train

VIEWS = {
    "home": home.show,
    "datasets": datasets.show,
    "train": train.show,
    "runs": runs.show,
    "run": run.show,
    "compare": compare.show,
    "evaluations": evaluations.show,
    "models": models.show,
    "system": system.show,
}

pages.dress()
st.navigation(pages.make(VIEWS)).run()
