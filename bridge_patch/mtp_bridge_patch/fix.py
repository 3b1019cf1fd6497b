"""What a fix states about itself. Each fix has a module of its own and is listed in ``patch.FIXES``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import ModuleType

from mtp_bridge_patch.releases import ENVIRONMENTS, is_at_least, public_release
from mtp_bridge_patch.upstream.hooks import Hooks

Install = Callable[[ModuleType], Callable[[], None]]
"""Changes a module, once it is imported, and returns what puts it back as it was."""


class Need(StrEnum):
    """What a release has to do with a fix.

    Attributes:
        APPLIES: It has the failure, and the fix has been checked on it.
        NOT_NEEDED: The failure is mended upstream.
        NOT_AVAILABLE: The fix has not been checked on it.
    """

    APPLIES = "applies"
    NOT_NEEDED = "not needed"
    NOT_AVAILABLE = "not available"


@dataclass(frozen=True, eq=False, kw_only=True)
class Fix(Hooks):
    """One change to Megatron-Bridge: what it does at each hook, and what else it changes.

    Attributes:
        id: Short name.
        failure: The failure that it removes, in one sentence.
        fixed_since: First upstream release without the failure; None if there is none yet.
        modules: Upstream modules that are changed beside the hooks, by their import names, and what changes
            each. One that a release does not have is left out.
    """

    id: str
    failure: str
    fixed_since: str | None
    modules: Mapping[str, Install] = field(default_factory=dict)

    @property
    def releases(self) -> tuple[str, ...]:
        """Releases that have the failure, and on which the fix has been checked."""
        since = self.fixed_since
        return tuple(release for release in ENVIRONMENTS if since is None or not is_at_least(release, since))

    def need(self, version: str) -> Need:
        """Tell what an installed version of Megatron-Bridge has to do with the fix."""
        if public_release(version) in self.releases:
            return Need.APPLIES
        if self.fixed_since is not None and is_at_least(version, self.fixed_since):
            return Need.NOT_NEEDED
        return Need.NOT_AVAILABLE

    def about(self, need: Need) -> str:
        """Say the need in a few words."""
        if need is Need.NOT_NEEDED:
            return f"not needed: fixed upstream since {self.fixed_since}"
        if need is Need.NOT_AVAILABLE:
            return f"not available: made for {', '.join(self.releases)}"
        return "applies"
