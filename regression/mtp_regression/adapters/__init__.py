"""The bridges: the contract (`protocol`), bases for it, and one module for each bridge that the kit knows."""

from importlib import resources

MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:MegatronBridge"
PATCHED_MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:PatchedMegatronBridge"

DECLARED_OF_MEGATRON_BRIDGE = resources.files(__name__).joinpath("megatron_bridge.toml")
"""What its releases cannot carry; see `roundtrip.declared`."""

SHIPPED = {
    "megatron-bridge": MEGATRON_BRIDGE,
    "megatron-bridge+patch": PATCHED_MEGATRON_BRIDGE,
}
"""Adapters that ship with the kit, by the names that commands take."""
