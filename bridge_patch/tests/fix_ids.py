"""The fixes that are applied to Megatron-Bridge 0.4.2, which needs them all, by hand and in their order."""

IDS = (
    "text-only",
    "mtp-layout-switch",
    "mtp-any-layer",
    "mtp-sequential-experts",
    "padded-vocabulary",
    "contiguous-save",
    "tied-embeddings-vpp",
    "dtype-preserving-export",
    "fp8-per-expert",
    "strict-load",
    "config-only-export",
    "mtp-layout-check",
)
