"""Fix ``tied-embeddings-vpp``: tied embeddings reach the last stage's last chunk, and a stored ``lm_head``.

``_broadcast_shared_embeddings`` of 0.4.x and 0.5.x looks at a rank's first chunk alone. The output layer is
on the last stage's last chunk: ``AssertionError: Output layer not found``. Where a checkpoint stores it
nevertheless, their exports leave it out of vision-language models, whose embedding has another key than they
look for, and a save leaves out all that shares a file with it.
"""

from collections.abc import Iterator
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Export
from mtp_bridge_patch.upstream.parallel_groups import is_last_stage
from mtp_checkpoint.layouts.keys import EMBEDDING, HEAD, TEXT_PREFIX


def _chunk_with_embeddings(models: list[Any]) -> list[Any]:
    return models[-1:] if is_last_stage(models) else models[:1]


def _with_head(name: str, tensor: Any, export: Export) -> Iterator[tuple[str, Any]]:
    yield name, tensor
    conversion = export.conversion
    tied = getattr(conversion.model_config, "share_embeddings_and_output_weights", False)
    if not tied or conversion.source is None or name != TEXT_PREFIX + EMBEDDING:
        return
    if HEAD in conversion.source.get_all_keys():
        yield HEAD, tensor.clone()  # safetensors refuses tensors that share memory


FIX = Fix(
    id="tied-embeddings-vpp",
    failure="Tied embeddings do not load on virtual pipeline stages; an lm_head stored with them is lost.",
    fixed_since="0.6.0",
    embedding_chunks=_chunk_with_embeddings,
    export=_with_head,
)
