"""The bridges: the contract (`protocol`), bases for it, and one module for each bridge that the kit knows."""

from importlib import resources

MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:MegatronBridge"
PATCHED_MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:PatchedMegatronBridge"

DECLARED_OF_MEGATRON_BRIDGE = resources.files(__name__).joinpath("megatron_bridge.toml")
"""What its releases cannot carry; see `roundtrip.declared`."""

_VARIANTS = {
    "sequential": "SequentialExperts",
    "config-only": "ConfigOnly",
    "padded": "PaddedVocabulary",
    "own-folders": "OwnFolders",
    "without-mtp": "WithoutMtp",
    "repeated": "RepeatedMtp",
    "added-mtp": "AddedMtp",
    "pinned": "PinnedRevision",
}
USES_OF_MEGATRON_BRIDGE = {use: f"mtp_regression.adapters.variants:{name}" for use, name in _VARIANTS.items()}
"""Adapters of its other uses; see `scenarios.Use`."""


def patched_uses() -> dict[str, str]:
    """Return those of the patched bridge."""
    return {use: name.replace(":", ":Patched") for use, name in USES_OF_MEGATRON_BRIDGE.items()}


SHIPPED = {
    "megatron-bridge": MEGATRON_BRIDGE,
    "megatron-bridge+patch": PATCHED_MEGATRON_BRIDGE,
    "mcore-bridge": "mtp_regression.adapters.mcore_bridge:McoreBridge",
    "nemo-automodel": "mtp_regression.adapters.nemo_automodel:NemoAutomodel",
    "transformers": "mtp_regression.adapters.transformers:Transformers",
    "vllm": "mtp_regression.adapters.readers.vllm:Vllm",
    "sglang": "mtp_regression.adapters.readers.sglang:Sglang",
    "in-memory": "mtp_regression.in_memory.bridge:InMemoryBridge",
}
"""Adapters that ship with the kit, by the names that commands take."""
