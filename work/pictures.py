"""Makes the pictures of every page, light and dark, for docs/images/: from the real workbench before the real service.

    python pictures.py [--tiny] [--only NAME …]

Trains the bundled example for real, so the pictures show what a visitor sees. It takes the bundled base model where its
weights are here (minutes), else, or with `--tiny`, a tiny random one (seconds; its scores are those of noise).
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "tests" / "browser")]

from conftest import CHROMIUM, SIZE  # noqa: E402 - its folder is set above
from flows import settled  # noqa: E402
from stage import Stage, until  # noqa: E402

IMAGES = HERE.parent / "docs" / "images"
SECONDS = 1800.0
QUESTION = "My printer shows error 42 since Monday and I need it today."


@dataclass(frozen=True)
class Shot:
    """One picture: its name, the address (with ids to be filled in), what must be visible, where to scroll to.

    `ask` is said to the model first.
    """

    name: str
    path: str
    wait: str = "h1"
    top: str = ""
    ask: str = ""


SHOTS = (
    Shot("home", "/"),
    Shot("datasets", "/datasets"),
    Shot("dataset", "/datasets?id={training}"),
    Shot("tokens", "/datasets?id={training}", wait=".tokenized mark", top="#tokens"),
    Shot("train", "/train?data={training}"),
    Shot("runs", "/runs"),
    Shot("run", "/run?id={run}"),
    Shot("compare", "/compare?ids={run},{shorter}"),
    Shot("evaluations", "/evaluations?id={evaluation}"),
    Shot("models", "/models?id={model}"),
    Shot("chat", "/models?id={model}&part=chat", ask=QUESTION),
    Shot("lineage", "/models?id={model}&part=lineage"),
    Shot("card", "/models?id={model}&part=card"),
    Shot("exports", "/models?id={model}&part=exports"),
    Shot("system", "/system"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny random model instead of the bundled one")
    parser.add_argument("--only", nargs="*", default=[], choices=[shot.name for shot in SHOTS] + ["running"])
    chosen = parser.parse_args()
    wanted = chosen.only or [shot.name for shot in SHOTS] + ["running"]
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        models = real_weights() if not chosen.tiny else None
        stage = Stage(Path(folder), **({"models_dir": models} if models else {}))
        try:
            stage.start()
            if models is None:
                stage.service.base()
            ids = trained(stage, browser, running="running" in wanted)
            for shot in SHOTS:
                if shot.name in wanted:
                    both(browser, stage, shot, ids)
        finally:
            stage.close()
            browser.close()
    return 0


def real_weights() -> Path | None:
    """The folder of the user's own base models, where the bundled one is among them."""
    from platformdirs import user_cache_path

    folder = user_cache_path("slm-platform") / "models"
    return folder if (folder / "smollm2-135m-instruct" / "slm-weights.json").is_file() else None


def trained(stage: Stage, browser: Browser, *, running: bool) -> dict[str, str]:
    """Train the example by the button on Home, with a picture of it at work; the ids that addresses need."""
    page = browser.new_page(viewport=SIZE, base_url=stage.url)  # type: ignore[arg-type]
    page.goto("/")
    settled(page)
    page.get_by_role("button", name="Train the example").click()
    until(lambda: stage.client.experiments.list(), seconds=120, what="the training of the example")
    page.close()
    run = stage.client.experiments.list()[0]
    if running:
        until(lambda: _steps(stage, run.id), seconds=SECONDS, what="some steps of the training")
        both(browser, stage, Shot("running", "/"), {})
    ended = stage.service.ended(run.id, seconds=SECONDS)
    print(f"{ended.name}: {ended.status}")
    evaluation = stage.client.evaluations.list(experiment_id=run.id)[0]
    print(stage.client.evaluations.get(evaluation.id).verdict)
    config = dict(ended.training_config or {}) | {"learning_rate": 1e-4, "max_steps": 10}
    shorter = stage.client.experiments.create(
        "Ten steps only",
        base_model_id=ended.base_model_id,
        training_dataset_id=ended.training_dataset_id,
        eval_dataset_id=ended.eval_dataset_id,
        training_config=config,
    )
    stage.service.ended(shorter.id, seconds=SECONDS)
    for form in ("adapter", "safetensors", "gguf-q8_0"):
        stage.client.runs.wait(stage.client.models.export(ended.resulting_model_id or "", form).id)
    return {
        "shorter": shorter.id,
        "training": ended.training_dataset_id,
        "run": run.id,
        "evaluation": evaluation.id,
        "model": ended.resulting_model_id or "",
    }


def _steps(stage: Stage, identity: str) -> bool:
    progress = stage.client.experiments.get(identity).progress
    return progress is not None and (progress.step or 0) >= 4


def both(browser: Browser, stage: Stage, shot: Shot, ids: dict[str, str]) -> None:
    """The picture in light and in dark."""
    for scheme in ("light", "dark"):
        options: dict[str, Any] = {"viewport": SIZE, "base_url": stage.url, "color_scheme": scheme}
        page = browser.new_page(**options, device_scale_factor=1.5)
        page.goto(shot.path.format(**ids))
        settled(page)
        page.wait_for_selector(shot.wait, timeout=120_000)
        if shot.ask:
            page.get_by_placeholder("Ask the model").fill(shot.ask)
            page.keyboard.press("Enter")
            page.get_by_text("tokens/s").nth(1).wait_for(timeout=120_000)
        _ready(page, shot)
        path = IMAGES / f"workbench-{shot.name}-{scheme}.png"
        path.write_bytes(small(page.screenshot()))
        page.close()
        print(f"{path.name}: {path.stat().st_size // 1000} KB", flush=True)


def _ready(page: Page, shot: Shot) -> None:
    if shot.top:
        page.locator(shot.top).evaluate("element => element.scrollIntoView({block: 'start'})")
    # Charts and tables draw themselves a moment after the script has ended.
    page.wait_for_timeout(1500)


def small(png: bytes) -> bytes:
    """The same picture with a palette: a page has few colours, and a checkout should stay small."""
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
