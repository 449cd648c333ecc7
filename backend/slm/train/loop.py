"""The training loop: `transformers.Trainer` with our batches, our loss, our checkpoints, and a sign of life each step.

Kept from the Trainer: optimizer, schedule, mixed precision, gradient clipping, going on in the middle of an epoch.
Ours: loss over the effective batch's learned tokens, validation that can be stopped anywhere, atomic checkpoints.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from slm import checkpoints
from slm.checkpoints import PROGRESS, Checkpoint
from slm.data.batches import EffectiveBatches, like_lengths
from slm.data.render import BaseRenderer, Rendered
from slm.errors import RunFailure
from slm.events import EventLog
from slm.methods import Recipe
from slm.spec import CHECKPOINT_MARKER, CHECKPOINTS_A_RUN, Hyperparameters, total_steps
from slm.train.machine import Machine
from slm.train.progress import Progress, Speed, Usage, tidy_epoch

_VALIDATION_BATCH = 8


class Loop(Trainer):  # type: ignore[misc]
    """Trains `model` on `rows`. Progress, events and checkpoints go to `progress`, `log` and `folder`."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[Rendered],
        held_out: Sequence[Rendered],
        *,
        recipe: Recipe,
        renderer: BaseRenderer,
        config: Hyperparameters,
        machine: Machine,
        folder: Path,
        pad_id: int,
        progress: Progress,
        usage: Usage,
        log: EventLog,
        check: Callable[[], None],
    ) -> None:
        self.batches = EffectiveBatches(
            [row.size for row in rows],
            batch_size=config.batch_size,
            micro_batch=machine.micro_batch,
            seed=config.seed,
        )
        self.total_steps = total_steps(self.batches.steps, config.epochs, config.max_steps)
        self.held_out = list(held_out[: config.eval_max_rows])
        self.recipe, self.config, self.folder = recipe, config, folder
        self.progress, self.events, self.check, self.speed, self.usage = progress, log, check, Speed(), usage
        share = recipe.sharing_width(model.config, device=machine.device)
        multiple = 8 if machine.device == "cuda" else 1
        self._collate = partial(recipe.collate, pad_id=pad_id, config=model.config, multiple=multiple, share=share)
        self._renderer = renderer
        self._micro_step = self._micro_steps = self._step_tokens = self._step_learned = 0
        self._random: dict[str, torch.Tensor] = {}
        super().__init__(
            model=model,
            args=_arguments(config, machine, folder, self.total_steps),
            train_dataset=rows,
            data_collator=self._collate_epoch,
            callbacks=[_Steering(self)],
        )
        # The loss below is divided by the learned tokens of the whole effective batch already.
        self.loss_is_scaled_for_ga = True

    # -- batches and loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        # A generator of its own: the loader draws a seed at each epoch, which must not move the global one.
        return DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self._collate_epoch, generator=torch.Generator()
        )

    def _collate_epoch(self, rows: Sequence[Rendered]) -> dict[str, torch.Tensor]:
        seed, epoch = self.config.seed, self.batches.epoch
        return self._collate([self._renderer.again(row, seed=seed, epoch=epoch) for row in rows])

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The micro-batches of one optimizer step and the number of loss units in all of them."""
        self.speed.start()
        found = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        self._micro_step, self._micro_steps = 0, len(found)
        self._step_tokens = sum(int(batch["tokens"]) for batch in found)
        self._step_learned = sum(int(batch["units"]) for batch in found)
        return found, torch.tensor(self._step_learned, device=device)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        self.check()
        self.events.beat(
            "training",
            step=self.progress.step,
            total_steps=self.total_steps,
            micro_step=self._micro_step,
            micro_steps=self._micro_steps,
        )
        self._micro_step += 1
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise RunFailure("loss_not_finite", f"The loss is no longer a number at step {self.progress.step + 1}.")
        return loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        # accelerate's autocast wraps only the model's own forward, which the recipe may bypass.
        with self.accelerator.autocast():
            loss: torch.Tensor = self.recipe.loss_sum(model, inputs) / num_items_in_batch
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One optimizer step is done: say so."""
        if "loss" not in logs:
            return
        # 16-bit floats overflow now and then; the gradient scaler skips such a step by itself.
        if not math.isfinite(logs.get("grad_norm", 0.0)) and not self.args.fp16:
            raise RunFailure("loss_not_finite", f"The gradient is no longer a number at step {self.progress.step + 1}.")
        cpu, seconds = self.speed.cpu(), self.speed.stop(self._step_tokens)
        self.progress.learned(
            loss=logs["loss"],
            learned_tokens=self._step_learned,
            tokens=self._step_tokens,
            seconds=seconds,
            cpu_seconds=cpu,
        )
        self.events.append(
            "step",
            step=self.progress.step,
            total_steps=self.total_steps,
            epoch=tidy_epoch(self.progress.step, self.batches.steps),
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens=self.progress.tokens,
            tokens_per_second=self.speed.tokens_per_second,
            eta_seconds=self.speed.eta(self.total_steps - self.progress.step),
            elapsed_seconds=round(self.progress.seconds, 3),
        )

    # -- when to evaluate and save

    def evaluation_due(self, step: int) -> bool:
        """Whether an evaluation belongs to a step: each epoch's last, and the last of all."""
        return step % self.batches.steps == 0 or step >= self.total_steps

    def checkpoint_due(self, step: int) -> bool:
        every = self.config.save_steps or math.ceil(self.total_steps / CHECKPOINTS_A_RUN[self.config.adapter])
        return step % every == 0 or self.evaluation_due(step)

    def finished(self) -> bool:
        return self.progress.stopped_early or self.progress.step >= self.total_steps

    # -- validation

    def evaluate(self, *_arguments: Any, **_keywords: Any) -> dict[str, float]:
        """Validation loss over the held-out rows, an entry of the curve, and whether to stop early."""
        epoch = tidy_epoch(self.progress.step, self.batches.steps)
        self.progress.unevaluated = True
        self.speed.start()
        val_loss = self._validation_loss() if self.held_out else None
        self.progress.seconds += self.speed.elapsed()
        self.progress.training_cpu_seconds += self.speed.cpu()
        best = self.progress.evaluated(epoch, val_loss)
        self.control.should_evaluate = False
        if val_loss is None:
            return {}
        self.events.append("evaluated", step=self.progress.step, epoch=epoch, val_loss=val_loss, best=best)
        patience = self.config.early_stopping_patience
        if patience is not None and self.progress.worse_in_a_row >= patience and not self.finished():
            self.progress.stopped_early = True
            self.control.should_training_stop = True
            sentence = f"Stopped early: {patience} evaluations in a row without a lower validation loss."
            self.events.append("warned", code="stopped_early", message=sentence)
        return {"eval_loss": val_loss}

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean loss per unit: nats per learned token, for a method that learns tokens."""
        self.model.eval()
        summed, units, done = 0.0, 0, 0
        for rows in like_lengths(self.held_out, _VALIDATION_BATCH):
            self.check()
            self.events.beat("evaluating", step=self.progress.step, done=done, total=len(self.held_out))
            inputs = self._prepare_inputs(self._collate(rows))
            with self.accelerator.autocast():
                summed += float(self.recipe.loss_sum(self.model, inputs))
            units += int(inputs["units"])
            done += len(rows)
        self.model.train()
        loss = summed / max(units, 1)
        if not math.isfinite(loss):
            raise RunFailure("loss_not_finite", f"The validation loss is not a number after step {self.progress.step}.")
        return loss

    # -- checkpoints

    def note_random_state(self) -> None:
        """Remember the random states between two steps, where a stopped run has to go on from."""
        self._random = {"cpu": torch.random.get_rng_state()}
        if torch.cuda.is_available():
            self._random["cuda"] = torch.cuda.random.get_rng_state()

    def save_stopped(self) -> Checkpoint:
        """A checkpoint of the last whole step, although the next one has begun; its gradients are forgotten."""
        if self._random:
            torch.random.set_rng_state(self._random["cpu"])
            if "cuda" in self._random:
                torch.cuda.random.set_rng_state(self._random["cuda"])
        return self.save_checkpoint()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.save_checkpoint()

    def save_checkpoint(self) -> Checkpoint:
        checkpoints.require_space(self.folder, self.checkpoint_bytes(), "a checkpoint")
        return self._keep(self._write)

    def checkpoint_bytes(self) -> int:
        """Expected size: the learned weights and AdamW's two moments, in 32-bit floats, and small change."""
        learned: int = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return 3 * 4 * learned + (1 << 20)

    def amend(self, path: Path) -> Checkpoint:
        """The checkpoint at `path` once more, with what has been learned since about the same step."""

        def copy(working: Path) -> None:
            for file in path.iterdir():
                if file.is_file() and file.name not in (PROGRESS, CHECKPOINT_MARKER):
                    shutil.copyfile(file, working / file.name)
            self.usage.note(self.progress)
            self.progress.save(working)

        return self._keep(copy)

    def _keep(self, write: Callable[[Path], None]) -> Checkpoint:
        progress = self.progress
        current = bool(progress.epochs) and not progress.unevaluated and self.evaluation_due(progress.step)
        saved = checkpoints.save(
            self.folder,
            progress.step,
            write,
            val_loss=progress.val_loss[-1] if current else None,
            best=progress.step == progress.best_step,
            beat=lambda done, total: self.events.beat("saving", step=progress.step, done=done, total=total),
        )
        checkpoints.prune(self.folder, keep=self.config.save_total_limit, best_step=progress.best_step)
        self.events.append(
            "checkpointed",
            durable=True,
            step=saved.step,
            name=saved.name,
            bytes=saved.bytes,
            val_loss=saved.val_loss,
            best=saved.best,
        )
        return saved

    def _write(self, working: Path) -> None:
        if hasattr(self.model, "peft_config"):
            self.model.save_pretrained(working, save_embedding_layers=False)
        else:
            self.model.save_pretrained(working)
        self._save_optimizer_and_scheduler(str(working))
        self._save_scaler(str(working))
        self._save_rng_state(str(working))
        self.state.save_to_json(str(working / "trainer_state.json"))
        self.usage.note(self.progress)
        self.progress.save(working)


class _Steering(TrainerCallback):  # type: ignore[misc]
    """Tells the Trainer, after each step, what is due."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._loop.batches.epoch = state.global_step // self._loop.batches.steps

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._loop.note_random_state()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_log = True
        control.should_evaluate = self._loop.evaluation_due(state.global_step)
        control.should_save = self._loop.checkpoint_due(state.global_step)


def _arguments(config: Hyperparameters, machine: Machine, folder: Path, steps: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=machine.micro_batch,
        gradient_accumulation_steps=machine.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=math.ceil(steps * config.warmup_ratio),
        weight_decay=config.weight_decay,
        max_grad_norm=1.0,
        bf16=machine.precision == "bf16",
        fp16=machine.precision == "fp16",
        use_cpu=machine.device == "cpu",
        dataloader_pin_memory=False,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
        remove_unused_columns=False,
    )
    # One GPU: with several, the Trainer would multiply the batch by their number behind the user's back.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
