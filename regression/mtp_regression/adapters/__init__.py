"""The bridges: the contract (`protocol.Adapter`), and one module for each that the kit knows."""

MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:MegatronBridge"
PATCHED_MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:PatchedMegatronBridge"
