"""Megatron's model on one rank of a CPU, with its own losses and their gradients.

To be imported after `te_standin.install`, which the adapters call.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mtp_regression.adapters.megatron_bridge import MegatronBridge, Patched
from mtp_regression.megatron.computing import computing_on_cpu


class Trained(MegatronBridge):
    """The bridge, and a model that it has loaded, in float32.

    Attributes:
        not_loaded: Names of the parameters that the load has left as they were.
    """

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint; its BF16 values in float32."""
        super().load(checkpoint)
        [chunk] = self.model
        while hasattr(chunk, "module"):  # what casts to BF16
            chunk = chunk.module
        self._model: nn.Module = chunk
        self._text: nn.Module = chunk.language_model
        self.not_loaded = [name for name, parameter in self.parameters() if parameter.isnan().any()]
        for parameter in self._model.parameters():
            parameter.data = parameter.data.float()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters by name, but those of the vision tower, which text does not use."""
        return {name: weight for name, weight in self.parameters() if "vision_model" not in name}

    @property
    def scaling_factor(self) -> float:
        """Megatron-Core's `mtp_loss_scaling_factor`, as the bridge leaves it."""
        return float(self._text.config.mtp_loss_scaling_factor)

    def initialise(self, seed: int) -> None:
        """Give what was not loaded the values that Megatron-Core gives a model which is not loaded.

        By the configuration's own functions: normal, with a smaller standard deviation in `linear_fc2`.
        """
        torch.manual_seed(seed)
        config, weights = self._text.config, self.weights
        for name in self.not_loaded:
            second = ".linear_fc2." in name
            (config.output_layer_init_method if second else config.init_method)(weights[name].data)

    def zero(self) -> None:
        """Give what was not loaded zeros, as fresh memory may have."""
        weights = self.weights
        for name in self.not_loaded:
            weights[name].data.zero_()

    def losses(self, tokens: torch.Tensor) -> dict[str, float]:
        """Compute the mean loss of each head, in nats; see `_losses`."""
        with torch.no_grad(), computing_on_cpu(self.model):
            return {name: loss.item() for name, loss in self._losses(tokens).items()}

    def gradients(self, tokens: torch.Tensor, factor: float) -> dict[str, torch.Tensor]:
        """Compute what Megatron's backward pass gives each parameter.

        Args:
            tokens: Int64 [rows, length].
            factor: `mtp_loss_scaling_factor`; at 0 the gradients are those of the main loss.
        """
        config, weights = self._text.config, self.weights
        kept, config.mtp_loss_scaling_factor = config.mtp_loss_scaling_factor, factor
        try:
            with computing_on_cpu(self.model):
                # MTP's loss is in none that the model returns: its gradient is added on the way back.
                main = self._losses(tokens)["main"]
                found = torch.autograd.grad(main, list(weights.values()), allow_unused=True)
        finally:
            config.mtp_loss_scaling_factor = kept
        return {
            name: torch.zeros_like(weight) if gradient is None else gradient
            for (name, weight), gradient in zip(weights.items(), found, strict=True)
        }

    def _losses(self, tokens: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Run the model with labels, as in training, and take the mean of each loss over what it predicts."""
        found: list[torch.Tensor] = []
        compute = self._text.compute_language_model_loss

        def note(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            found.append(compute(labels, logits))
            return found[-1]

        mask = torch.ones(tokens.shape)
        mask[:, -1] = 0
        self._text.compute_language_model_loss = note
        try:
            self._model(
                input_ids=tokens,
                position_ids=None,
                attention_mask=None,
                labels=tokens.roll(-1, dims=1),
                loss_mask=mask,
            )
        finally:
            del self._text.compute_language_model_loss
        *mtp, main = found
        named = {"main": main} | {f"mtp.{number}": loss for number, loss in enumerate(mtp)}
        return {name: loss[:, :-ahead].mean() for ahead, (name, loss) in enumerate(named.items(), start=1)}


class PatchedTrained(Patched, Trained):
    """The patched bridge, and its model."""
