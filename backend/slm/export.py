"""Write a model in a form that other programs load, load it again from the disk, and compare; all of it, or nothing.

adapter      the learned matrices alone, for PEFT, beside the base they belong to
safetensors  the whole model, adapters merged in, for transformers
gguf-*       the whole model in one file for llama.cpp, LM Studio, Ollama; see `gguf_writer`

Called by `slm.run`. A folder becomes one .zip whose bytes depend on its content alone. What differs from the original
in a self-test is removed, and the run fails (`export_differs`).
"""

from __future__ import annotations

import gc
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
)

from slm import checkpoints, gguf_writer, ollama, selftest
from slm.errors import RunFailure
from slm.events import EventLog, Stop
from slm.files import Beat, file_digest
from slm.generate import stop_ids
from slm.methods import METHODS
from slm.selftest import Observation, Probe, Verdict
from slm.spec import ExportSpec

ARTIFACTS = "artifacts"
WORKING = f"{checkpoints.TEMPORARY}{ARTIFACTS}"
LEAST_SAME = {"adapter": 0.99, "safetensors": 0.99, "gguf-f16": 0.99, "gguf-q8_0": 0.95}
"""Share of top tokens that must be the original's."""
_BYTES_A_PARAMETER = {"safetensors": 8.0, "gguf-f16": 2.1, "gguf-q8_0": 1.2}
"""Of free disk: a folder of 32-bit floats is there twice while it is packed."""
_SPARE = 32 << 20
_NOT_FOR_OTHERS = ("is_local", "local_files_only", "name_or_path")
"""What transformers writes about how it was called, into `tokenizer_config.json`."""


def export(spec: ExportSpec, directory: Path, log: EventLog, stop: Stop) -> None:
    """Carry out an export; on return the log ends with `finished`. Raises `RunFailure`, `Cancelled`, `Interrupted`."""
    working = directory / WORKING
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    try:
        _Export(spec, directory, working, log, stop).run()
    finally:
        shutil.rmtree(working, ignore_errors=True)


class _Export:
    def __init__(self, spec: ExportSpec, directory: Path, working: Path, log: EventLog, stop: Stop) -> None:
        self.spec, self.directory, self.working, self.log, self.stop = spec, directory, working, log, stop
        self.threads = spec.threads or torch.get_num_threads()
        self.model_class: Any = AutoModelForCausalLM

    def run(self) -> None:
        torch.set_num_threads(self.threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(0)
        self.log.append("started", resumed_from_step=None, threads=self.threads, format=self.spec.format)
        self._enter("loading")
        self.model_class = _model_class(self.spec)
        model = checkpoints.load_base(self.spec.model, self.directory, model_class=self.model_class)
        tokenizer = checkpoints.load_tokenizer(self.spec.model)
        self._require_space(model)
        self._enter("comparing")
        probes, original = self._observe_original(model, tokenizer)
        self._enter("writing")
        written = self._write(model, tokenizer)
        del model
        gc.collect()
        self._enter("checking")
        verdicts = self._reload_and_compare(written, probes, original, tokenizer)
        self._enter("saving")
        self._finish(written, verdicts)

    def _enter(self, phase: str) -> None:
        self.stop.check()
        self.log.append("phase", phase=phase)

    def _beat(self, phase: str) -> Beat:
        def beat(done: int, total: int) -> None:
            self.stop.check()
            self.log.beat(phase, done=done, total=total)

        return beat

    def _require_space(self, model: Any) -> None:
        if self.spec.format == "adapter":
            needed = 2 * sum(path.stat().st_size for path in self._adapter().iterdir())
        else:
            needed = int(model.num_parameters() * _BYTES_A_PARAMETER[self.spec.format])
        checkpoints.require_space(self.directory, needed + _SPARE, "the export")

    def _adapter(self) -> Path:
        if not self.spec.model.adapters:
            raise RunFailure("spec_invalid", f"'{self.spec.model.name}' has whole weights and no adapter to export.")
        return self.directory / self.spec.model.adapters[-1]

    def _observe_original(self, model: Any, tokenizer: Any) -> tuple[list[Probe], Observation]:
        beat = self._beat("comparing")
        vocabulary = int(model.config.get_text_config().vocab_size)
        causal = bool(model.can_generate())
        try:
            found = selftest.probes(
                tokenizer, self.spec.probe, self.spec.held_out, self.directory, causal=causal, beat=beat
            )
        except RunFailure as failure:
            if failure.reason.code != "data_missing":
                raise
            message = f"{failure.message} The export is compared on built-in sentences instead."
            self.log.append("warned", code="data_missing", message=message)
            found = selftest.probes(tokenizer, None, None, self.directory, causal=causal, beat=beat)
        chosen = selftest.within(found, vocabulary)
        return chosen, selftest.observe(model, tokenizer, chosen, beat)

    # -- writing

    def _write(self, model: Any, tokenizer: Any) -> Path:
        """The folder or file that is loaded again."""
        if self.spec.format == "adapter":
            return self._write_adapter(tokenizer)
        if self.spec.format == "safetensors":
            return self._write_folder(model, tokenizer)
        return self._write_gguf(model, tokenizer)

    def _write_adapter(self, tokenizer: Any) -> Path:
        """The last adapter; earlier ones that it was trained upon lie beside it, numbered in their order."""
        folder = self.working / self.spec.file_stem
        shutil.copytree(self._adapter(), folder)
        for number, earlier in enumerate(self.spec.model.adapters[:-1], start=1):
            shutil.copytree(self.directory / earlier, folder / f"earlier-{number}")
        for config in folder.rglob("adapter_config.json"):
            found = json.loads(config.read_bytes())
            if Path(str(found.get("base_model_name_or_path"))).is_absolute():
                found["base_model_name_or_path"] = None
                config.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
        self._dress(folder, tokenizer)
        return folder

    def _write_folder(self, model: Any, tokenizer: Any) -> Path:
        folder = self.working / self.spec.file_stem
        model.config._name_or_path = self.spec.model.name
        model.save_pretrained(folder)
        self._dress(folder, tokenizer)
        return folder

    def _dress(self, folder: Path, tokenizer: Any) -> None:
        """Tokenizer and card beside the weights, without a word about this machine."""
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(self._card())
        (folder / "training_args.bin").unlink(missing_ok=True)
        config = folder / "tokenizer_config.json"
        found = json.loads(config.read_bytes())
        kept = {key: value for key, value in found.items() if key not in _NOT_FOR_OTHERS}
        config.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def _write_gguf(self, model: Any, tokenizer: Any) -> Path:
        path = self.working / f"{self.spec.file_stem}.gguf"
        adds_start = tokenizer.bos_token_id is not None and _leading(tokenizer) == [tokenizer.bos_token_id]
        gguf_writer.write(
            path,
            model,
            tokenizer,
            precision="f16" if self.spec.format == "gguf-f16" else "q8_0",
            name=self.spec.model.name,
            adds_start=adds_start,
            beat=self._beat("writing"),
        )
        ends = [str(tokenizer.decode([token])) for token in stop_ids(tokenizer, model)]
        modelfile = ollama.modelfile(path.name, tokenizer, stops=ends, adds_start=adds_start)
        (self.working / "Modelfile").write_text(modelfile)
        if tokenizer.chat_template:
            (self.working / "chat_template.jinja").write_text(tokenizer.chat_template)
        (self.working / "README.md").write_text(self._card())
        return path

    def _card(self) -> str:
        return self.spec.card or f"# {self.spec.model.name}\n"

    # -- checking

    def _reload_and_compare(
        self, written: Path, probes: list[Probe], original: Observation, tokenizer: Any
    ) -> list[Verdict]:
        beat = self._beat("checking")
        loader, load = self._loader(written)
        model, reloaded = load()
        verdicts = [selftest.compare(loader, original, selftest.observe(model, reloaded, probes, beat))]
        del model
        gc.collect()
        if written.suffix == ".gguf" and selftest.has_llama_cpp():
            end = str(tokenizer.eos_token)
            verdicts.append(selftest.ask_llama_cpp(written, original, probes, end=end, threads=self.threads, beat=beat))
        least = LEAST_SAME[self.spec.format]
        for verdict in verdicts:
            if (why := verdict.fault(least=least)) is not None:
                message = f"Loaded again by {verdict.loader}, the {self.spec.format} export is another model: {why}."
                raise RunFailure("export_differs", message)
        return verdicts

    def _loader(self, written: Path) -> tuple[str, Callable[[], tuple[Any, Any]]]:
        """Who loads the export, as a user would: name, and a call that gives model and tokenizer."""
        if self.spec.format == "adapter":
            return "peft", lambda: (self._load_adapter(written), _tokenizer(written))
        if self.spec.format == "safetensors":
            return "transformers", lambda: (_load_folder(written, self.model_class), _tokenizer(written))
        return "transformers (GGUF)", lambda: _load_gguf(written)

    def _load_adapter(self, folder: Path) -> Any:
        earlier = sorted(folder.glob("earlier-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        reference = self.spec.model.model_copy(update={"adapters": (*(str(path) for path in earlier), str(folder))})
        return checkpoints.load_base(reference, self.directory, model_class=self.model_class)

    # -- ending

    def _finish(self, written: Path, verdicts: Sequence[Verdict]) -> None:
        beat = self._beat("saving")
        if written.is_dir():
            _pack(written, self.working / f"{written.name}-{self.spec.format}.zip", beat)
            shutil.rmtree(written)
        listed = [
            {
                "kind": "export",
                "path": f"{ARTIFACTS}/{path.name}",
                "size_bytes": path.stat().st_size,
                "sha256": file_digest(path, beat),
            }
            for path in sorted(
                self.working.iterdir(), key=lambda path: (path.suffix not in (".gguf", ".zip"), path.name)
            )
        ]
        checkpoints.publish(self.working, self.directory / ARTIFACTS)
        said = {"format": self.spec.format, "self_test": selftest.figures(verdicts)}
        self.log.append("finished", durable=True, artifacts=listed, evaluation=None, model=None, export=said)


def _weights_first(path: Path) -> tuple[bool, str]:
    return path.suffix not in (".gguf", ".zip"), path.name


def _leading(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text by itself."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    dressed = list(tokenizer("a")["input_ids"])
    return dressed[: len(dressed) - len(plain)] if dressed[-len(plain) :] == plain else []


def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _model_class(spec: ExportSpec) -> Any:
    """What loads the model with the head it has: by its training, or, of a base, by its architecture's name."""
    if spec.model.method is not None:
        return METHODS[spec.model.method].MODEL_CLASS
    name = next(iter(getattr(checkpoints.load_config(spec.model), "architectures", None) or []), "")
    if name.endswith(("ForMaskedLM", "ForPreTraining")):
        return AutoModelForMaskedLM
    if name.endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    return AutoModel if name.endswith("Model") and not name.endswith("LMHeadModel") else AutoModelForCausalLM


def _load_folder(folder: Path, model_class: Any) -> Any:
    return model_class.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )


def _load_gguf(path: Path) -> tuple[Any, Any]:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
        return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunFailure("export_differs", f"transformers does not load the exported file: {error}") from None


def _pack(folder: Path, target: Path, beat: Beat) -> None:
    """One archive of a folder, uncompressed (weights do not shrink); the same content always gives the same bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in files), 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.create_system = 0o644 << 16, 3
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                while block := source.read(8 << 20):
                    packed.write(block)
                    done += len(block)
                    beat(done, total)
    with zipfile.ZipFile(target) as archive:
        if (broken := archive.testzip()) is not None:
            raise RunFailure("export_differs", f"{broken} changed when it was packed; check the disk.")
