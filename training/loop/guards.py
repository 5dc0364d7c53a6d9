"""Stops a training at the first loss or weight that is not a number, before a checkpoint holds it."""

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foils.errors import UserError

REMEDY = (
    "checkpoints, if any were made, hold numbers only and stay; lower trainer.learning_rate or give it "
    "trainer.warmup_steps, or try --set precision=fp32"
)


class StopOnNaN(TrainerCallback):
    """Ends training with a `UserError` at the first loss that is NaN or infinite, with its step.

    It looks at each loss as it is computed, before gradients and weights see it, and at the weights before each
    checkpoint and at the end. So the last checkpoint is good. The trainer's own filter shows the mean of earlier losses
    in place of a NaN; set `logging_nan_inf_filter=False`.
    """

    def __init__(self, loss: nn.Module) -> None:
        self._state: TrainerState | None = None
        loss.register_forward_hook(self._look)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remembers where the trainer keeps its step."""
        self._state = state

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Looks at the weights before they are saved."""
        if control.should_save:
            self._refuse_weights(more["model"], state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Looks at the weights that training ends with."""
        self._refuse_weights(more["model"], state.global_step)

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Looks at every loss of training; those of measurements have no gradient."""
        if self._state is None or not torch.is_grad_enabled():
            return
        parts = list(output.values()) if isinstance(output, dict) else [output]
        value = torch.stack([part.detach().float() for part in parts]).sum()
        if not torch.isfinite(value):
            raise UserError(f"training: the loss is {value.item()} at step {self._state.global_step + 1}; {REMEDY}")

    def _refuse_weights(self, model: nn.Module, step: int) -> None:
        bad = [name for name, weights in model.named_parameters() if not torch.isfinite(weights).all()]
        if bad:
            raise UserError(
                f"training: {len(bad)} weights hold NaN or infinity after step {step}, {bad[0]} first; {REMEDY}"
            )
