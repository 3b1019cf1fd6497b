"""A bridge of which MTP layers are asked for that the checkpoint's configuration does not declare."""

from typing import Any

from mtp_regression.adapters.megatron_bridge import MegatronBridge


class OneMtpLayer(MegatronBridge):
    """What an author has to do by hand for Qwen3-Next."""

    def configure(self, provider: Any) -> None:
        provider.mtp_num_layers = 1
