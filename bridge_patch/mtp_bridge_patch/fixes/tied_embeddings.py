"""Fix ``tied-embeddings-vpp``: tied embeddings reach the last pipeline stage if it has several model chunks.

``_broadcast_shared_embeddings`` of 0.4.x and 0.5.x looks at a rank's first chunk alone. The output layer is
on the last stage's last chunk: ``AssertionError: Output layer not found``.
"""

from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.parallel_groups import is_last_stage


def _chunk_with_embeddings(models: list[Any]) -> list[Any]:
    return models[-1:] if is_last_stage(models) else models[:1]


FIX = Fix(
    id="tied-embeddings-vpp",
    failure="A model with tied embeddings does not load on virtual pipeline stages.",
    fixed_since="0.6.0",
    embedding_chunks=_chunk_with_embeddings,
)
