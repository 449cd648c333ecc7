"""Evaluations: what models achieved on rows they did not learn from, and scoring any model on any data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from slm_client import Client, Evaluation, EvaluationDetail, Model, NotFound, Sample, SlmError

import service
from components import badges, charts, pages, scorecard, states, tables, titles, words, working

SHOWN_SAMPLES = 10
MOST_SAMPLES = 1000
MOST_OF_MODEL = 25
"""Each of these is asked for by itself."""


def show() -> None:
    identity, run = pages.param("id"), pages.param("run")
    if identity:
        _detail(service.client(), identity)
    elif run:
        _scoring(run)
    else:
        _overview(service.client())


# -- all of them


def _overview(client: Client) -> None:
    pages.header(
        "Evaluations", lead="What models achieve on rows they did not learn from, beside what anyone should beat."
    )
    models = _models(client)
    _new(client, models)
    called = {model.id: _title(model) for model in models}
    of = pages.pick(
        "Of one model", called, name="of", optional=True, nothing="All that trainings brought",
        hint="Then those that were asked for by themselves are listed too.",
    )  # fmt: skip
    evaluations = client.evaluations.list(model_id=of, limit=MOST_OF_MODEL if of else MOST_SAMPLES)
    if not evaluations:
        states.empty(
            f"{words.plain(called[of])} was not evaluated yet."
            if of in called
            else "Nothing was evaluated yet. A finished training brings its evaluation."
        )
        return
    what = _scored_on(client, evaluations) if of else _of_runs(client, evaluations)
    rows = [
        {
            **named,
            "numbers": [badges.SIMULATED] if evaluation.simulated else ["measured"],
            "finished": evaluation.created_at,
        }
        for named, evaluation in zip(what, evaluations, strict=True)
    ]
    numbers = st.column_config.MultiselectColumn(
        "Numbers", options=["measured", badges.SIMULATED], color=["green", "orange"]
    )
    columns = {
        "run": "Run",
        "data": "Scored on",
        "rows": st.column_config.NumberColumn("Rows", format="localized"),
        "numbers": numbers,
        "finished": tables.moment_column("Finished"),
    }
    st.caption("Choose a row to see its scorecard.")
    chosen = tables.show(
        rows, key="evaluations", columns=columns, choose="single-row", file_name="evaluations", most_rows=12
    )
    if chosen:
        pages.remember(id=evaluations[chosen[0]].id)
        st.rerun()


def _models(client: Client) -> list[Model]:
    """What may be scored, what was made here first: a base is scored beside it anyway."""
    return sorted(
        (model for model in client.models.list() if not model.simulated), key=lambda model: model.model_type == "base"
    )


def _title(model: Model) -> str:
    return f"{model.name} {model.version}".strip()


def _of_runs(client: Client, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    names = {experiment.id: experiment.name for experiment in client.experiments.list()}
    return [{"run": names.get(evaluation.experiment_id, titles.GONE)} for evaluation in evaluations]


def _scored_on(client: Client, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Of one model's evaluations: on which data, and how many of their rows."""
    names = {dataset.id: dataset.name for dataset in client.datasets.list()}
    found = [client.evaluations.get(evaluation.id) for evaluation in evaluations]
    return [
        {
            "data": names.get(one.dataset_id, titles.GONE) if one.dataset_id else "rows held out of its training data",
            "rows": one.rows_scored,
        }
        for one in found
    ]


def _new(client: Client, models: Sequence[Model]) -> None:
    """Score any model on any data set."""
    with st.expander("Score a model on a data set", icon=":material/add_chart:", expanded=bool(pages.param("model"))):
        datasets = client.datasets.list(limit=MOST_SAMPLES)
        if not datasets:
            st.write("There is no data set yet.")
            pages.link("datasets", "Upload one", icon=":material/upload:")
            return
        model_ids, dataset_ids = [model.id for model in models], [dataset.id for dataset in datasets]
        labels = {model.id: _title(model) for model in models}
        labels |= {dataset.id: f"{dataset.name} · {words.count(dataset.row_count, 'row')}" for dataset in datasets}
        left, right = st.columns(2)
        model_id = left.selectbox(
            "Model",
            model_ids,
            format_func=labels.__getitem__,
            key="score_model",
            index=_place(model_ids, pages.param("model")),
        )
        dataset_id = right.selectbox(
            "Data set",
            dataset_ids,
            format_func=labels.__getitem__,
            key="score_dataset",
            index=_place(dataset_ids, pages.param("dataset")),
        )
        if st.button("Score it", type="primary", icon=":material/play_arrow:", key="score_start"):
            try:
                run = client.evaluations.create(str(model_id), str(dataset_id))
            except SlmError as error:
                states.refused(error)
                return
            pages.remember(run=run.id, model=None, dataset=None)
            st.rerun()


def _place(options: Sequence[str], wanted: str) -> int:
    return options.index(wanted) if wanted in options else 0


# -- one that is being scored


def _scoring(run_id: str) -> None:
    pages.header("Scoring", crumbs=[("evaluations", {})])
    run = working.follow(run_id)
    if run.state == "completed":
        evaluation_id = str((run.wire.get("result") or {}).get("evaluation_id") or "")
        st.write("The scorecard is ready.")
        pages.link("evaluations", "See it", icon=":material/scoreboard:", id=evaluation_id)


# -- one scorecard


def _detail(client: Client, identity: str) -> None:
    evaluation = client.evaluations.get(identity)
    title, facts = _about(client, evaluation)
    pages.header(title, crumbs=[("evaluations", {})])
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if evaluation.simulated:
            st.badge(badges.SIMULATED, icon=":material/science:", color="orange", help=badges.SIMULATED_HINT)
        st.markdown(words.moment(evaluation.created_at), unsafe_allow_html=True, width="content")
        for page, label, state in facts:
            pages.link(page, label, **state)
    _verdict(evaluation)
    _metrics(evaluation)
    _classes(evaluation)
    _samples(client, evaluation)
    _training(evaluation)
    _remove(client, evaluation)


def _about(client: Client, evaluation: EvaluationDetail) -> tuple[str, list[tuple[str, str, dict[str, str]]]]:
    """The title, and links to the run, the model and the data; what was deleted is left out."""
    title, links = "Evaluation", []
    try:
        if evaluation.model_id:
            model = client.models.get(evaluation.model_id)
            title = f"{model.name} {model.version if model.model_type != 'base' else ''}".strip()
            links.append(("models", "Model", {"id": model.id}))
    except NotFound:
        title = "A deleted model"
    if evaluation.experiment_id:
        links.insert(0, ("run", "Run", {"id": evaluation.experiment_id}))
    if evaluation.dataset_id:
        links.append(("datasets", "Data", {"id": evaluation.dataset_id}))
    return title, links


def _verdict(evaluation: EvaluationDetail) -> None:
    if evaluation.simulated:
        st.warning("Simulated: every number below is made up.", icon=":material/science:")
    if evaluation.verdict:
        with st.container(border=True, key="verdict"):
            st.markdown(words.plain(evaluation.verdict))
    sentence = scorecard.overlap_sentence(evaluation.wire.get("overlap"))
    if sentence:
        st.warning(sentence, icon=":material/content_copy:")
    chosen = str(evaluation.wire.get("rows_chosen") or "")
    if evaluation.rows_scored is not None:
        of = "" if evaluation.rows_available in (None, evaluation.rows_scored) else f" of {evaluation.rows_available:,}"
        how = f", {chosen}" if chosen and chosen != "all" else ""
        st.caption(
            f"{words.count(evaluation.rows_scored)}{of} held-out rows scored{how}. Intervals are 95 %, paired by row; "
            "nothing is called better while the interval of the difference holds zero."
        )


def _metrics(evaluation: EvaluationDetail) -> None:
    rows = scorecard.rows(evaluation)
    if not rows:
        st.info("No rows were held out, so nothing was scored.", icon=":material/info:")
        return
    judged = st.column_config.TextColumn("Verdict", help="What the interval of the difference allows to say.")
    columns = {
        "metric": "Metric",
        "base": "Base",
        "tuned": "Tuned",
        "difference": st.column_config.TextColumn("Difference (95 %)", help="Tuned less base, on the same rows."),
        "judged": judged,
    }
    tables.show(rows, key="scorecard", columns=columns, file_name=f"scorecard-{evaluation.id}")
    _intervals(evaluation)
    notes = [str(card["note"]) for card in evaluation.baselines.values() if card.get("note")]
    explained = evaluation.wire.get("metric_notes") or {}
    notes += [f"{scorecard.metric(name).title}: {text}" for name, text in explained.items()]
    if notes:
        with st.expander("What the numbers mean", icon=":material/help:"):
            for note in notes:
                st.write(words.plain(note))


def _intervals(evaluation: EvaluationDetail) -> None:
    """A small picture for each metric, two beside each other where there is room."""
    points = scorecard.interval_points(evaluation)
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        by_metric.setdefault(point["metric"], []).append(point)
    with st.expander("Intervals", icon=":material/straighten:", expanded=True):
        st.html(scorecard.legend(list(dict.fromkeys(point["who"] for point in points))))
        places = st.columns(2)
        for number, (title, found) in enumerate(by_metric.items()):
            with places[number % 2], st.container(key=f"interval_{number}"):
                st.caption(title)
                described = "; ".join(f"{point['who']} {point['shown']}" for point in found)
                chart = scorecard.interval_chart(found)
                charts.draw(chart, alt_text=f"{title}, 95 % intervals: {described}")


def _classes(evaluation: EvaluationDetail) -> None:
    per_class: Any = evaluation.wire.get("per_class")
    confusion: Any = evaluation.wire.get("confusion")
    if not per_class and not confusion:
        return
    st.subheader("By label", anchor=False)
    left, right = st.columns([3, 2])
    if per_class:
        share = st.column_config.ProgressColumn
        columns = {
            "label": "Label",
            "rows": "Rows",
            "precision": share("Precision", format="percent", min_value=0, max_value=1),
            "recall": share("Recall", format="percent", min_value=0, max_value=1),
            "f1": share("F1", format="percent", min_value=0, max_value=1),
            "base_f1": share("F1 of the base", format="percent", min_value=0, max_value=1),
        }
        with left:
            tables.show(
                scorecard.class_rows(per_class), key="per_class", columns=columns, file_name=f"labels-{evaluation.id}"
            )
    if confusion:
        with right:
            chart = scorecard.confusion_chart(confusion["labels"], confusion["tuned"])
            charts.draw(chart, key="confusion", alt_text="Confusion matrix of the tuned model: true labels down.")


def _samples(client: Client, evaluation: EvaluationDetail) -> None:
    samples = client.evaluations.samples(evaluation.id, limit=MOST_SAMPLES)
    if not samples:
        return
    st.subheader("Row by row", anchor=False)
    worse = [sample for sample in samples if scorecard.lost(sample)]
    options = {"all": f"All {len(samples):,}", "lost": f"Where tuned lost ({len(worse):,})"}
    asked = pages.param("rows", "all")
    chosen = st.segmented_control(
        "Rows",
        [*options],
        format_func=options.__getitem__,
        default=asked if asked in options else "all",
        key="sample_filter",
        label_visibility="collapsed",
    )
    pages.remember(rows=chosen if chosen != "all" else None)
    found = worse if chosen == "lost" else list(samples)
    if not found:
        st.success("On no row did the base answer better than the tuned model.", icon=":material/check:")
        return
    count = len(found)
    start = 0
    if count > SHOWN_SAMPLES:
        last = (count - 1) // SHOWN_SAMPLES + 1
        page = st.number_input(f"Page, of {last}", 1, last, 1, key="sample_page", width=160)
        start = (page - 1) * SHOWN_SAMPLES
    for sample in found[start : start + SHOWN_SAMPLES]:
        _sample(sample, has_base=bool(evaluation.base_metrics))
    tables.csv_button(
        [_flat(sample) for sample in found], key="samples_csv", file_name=f"rows-{evaluation.id}-{chosen or 'all'}"
    )


def _sample(sample: Sample, *, has_base: bool) -> None:
    with st.container(border=True):
        st.caption(f"Line {sample.row}")
        if sample.prompt:
            st.text(sample.prompt)
        expected = sample.expected or ""
        columns = st.columns(3 if has_base else 2)
        answers = [("Expected", None, expected), ("Tuned", "tuned", sample.tuned_output)]
        if has_base:
            answers.insert(1, ("Base", "base", sample.base_output))
        for column, (title, side, text) in zip(columns, answers, strict=True):
            with column:
                st.caption(title)
                body = words.escaped(text or "") if side is None else scorecard.marked(expected, text or "")
                st.html(f'<div class="answer">{body or "<i>nothing</i>"}</div>')
                if side is not None and sample.scores.get(side):
                    st.caption(_scores(sample.scores[side]))


def _scores(scores: Any) -> str:
    shown = [(name, value) for name, value in scores.items() if isinstance(value, int | float)]
    return " · ".join(f"{scorecard.metric(name).title} {words.number(float(value))}" for name, value in shown)


def _flat(sample: Sample) -> dict[str, Any]:
    return {
        "line": sample.row,
        "prompt": sample.prompt,
        "expected": sample.expected,
        "base": sample.base_output,
        "tuned": sample.tuned_output,
        "tuned_lost": scorecard.lost(sample),
    }


def _training(evaluation: EvaluationDetail) -> None:
    """How the training went: planned beside actual, the curve by epochs, every statistic."""
    planned = scorecard.planned_rows(evaluation.wire.get("planned"), evaluation.wire.get("actual"))
    if not evaluation.training_statistics and not planned:
        return
    with st.expander("How the training went", icon=":material/timeline:"):
        if planned:
            tables.show(planned, key="planned", file_name=f"planned-{evaluation.id}")
        rows = [
            {"statistic": name.replace("_", " "), "value": str(value)}
            for name, value in evaluation.training_statistics.items()
        ]
        tables.show(rows, key="statistics", file_name=f"statistics-{evaluation.id}")


def _remove(client: Client, evaluation: EvaluationDetail) -> None:
    with st.popover("Delete this evaluation", icon=":material/delete:", type="tertiary"):
        st.write("Removes the scorecard and its rows. The model and the data stay.")
        if st.button("Delete", type="primary", key="delete_evaluation"):
            try:
                client.evaluations.delete(evaluation.id)
            except SlmError as error:
                states.refused(error)
                return
            pages.remember(id=None, rows=None)
            st.rerun()
