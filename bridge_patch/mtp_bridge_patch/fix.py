"""What a fix states about itself. Each fix has a module of its own and is listed in ``patch.FIXES``."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from mtp_bridge_patch.releases import UnsupportedRelease, is_at_least, public_release


@dataclass(frozen=True)
class Fix:
    """One change to Megatron-Bridge.

    Attributes:
        id: Short name.
        failure: The failure that it removes, in one sentence.
        releases: Releases that have the failure, and on which the fix has been checked.
        fixed_since: First upstream release without the failure.
        module: Upstream module that is changed, by its import name.
        install: Changes that module, once it is imported, and returns what puts it back as it was.
    """

    id: str
    failure: str
    releases: tuple[str, ...]
    fixed_since: str
    module: str
    install: Callable[[ModuleType], Callable[[], None]]

    def is_needed(self, version: str | None) -> bool:
        """Tell whether an installed version of Megatron-Bridge has the failure; None is not installed.

        Raises:
            UnsupportedRelease: The version is neither one of ``releases`` nor ``fixed_since`` or later.
        """
        if version is not None and public_release(version) in self.releases:
            return True
        if version is not None and is_at_least(version, self.fixed_since):
            return False
        installed = "is not installed" if version is None else f"{version} is not a known release"
        raise UnsupportedRelease(
            f"megatron-bridge {installed}: {self.id} is made for {', '.join(self.releases)} "
            f"and not needed since {self.fixed_since}. Install one of these."
        )
