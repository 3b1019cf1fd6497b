"""The fixes that are applied to Megatron-Bridge 0.4.2, which needs them all, by hand and in their order."""

IDS = (
    "errors-together",
    "text-only",
    "layer-types",
    "key-value-heads",
    "mtp-layout-check",
    "mtp-any-layer",
    "mtp-any-stage",
    "mtp-off",
    "mtp-expert-mappings",
    "expert-numbers",
    "padded-vocabulary",
    "contiguous-save",
    "tied-embeddings-vpp",
    "dtype-preserving-export",
    "strict-load",
    "saved-files",
    "checkpoint-pipeline",
    "saved-index",
    "fp8-per-expert",
    "config-only-export",
)
