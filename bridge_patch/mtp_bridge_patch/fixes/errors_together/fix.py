"""Fix ``errors-together``: what one rank raises in a load, an export or a save, all raise, and none waits.

A shard that one rank cannot read, a shape that only the rank that cuts a weight looks at, a disk that is
full: upstream raises on that rank, and the others wait in a collective until its time limit, whose error does
not say why. Here ranks tell each other, wherever they would wait, whether they have failed.
"""

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.fixes.errors_together.export import built, naming, stream
from mtp_bridge_patch.fixes.errors_together.load import load
from mtp_bridge_patch.fixes.errors_together.save import save

FIX = Fix(
    id="errors-together",
    failure="An error of one rank in a load, export or save leaves the others waiting until the time limit.",
    fixed_since=None,
    load=load,
    naming=naming,
    tasks=built,
    stream=stream,
    save=save,
    save_weights=save,
)
