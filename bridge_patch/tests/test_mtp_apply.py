"""Patching, and putting everything back."""

import contextlib
import dataclasses
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mtp_bridge_patch
import mtp_checkpoint
from mtp_bridge_patch.fix import Need
from mtp_bridge_patch.fixes.expert_mappings import FIX
from mtp_bridge_patch.upstream.methods import METHODS

from .fix_ids import IDS

BRIDGE = "megatron.bridge.models.qwen_vl.qwen35_vl_bridge"

pytestmark = pytest.mark.usefixtures("release_042")


@pytest.fixture
def release_042(install_release: Callable[[str], Path]) -> Path:
    return install_release("0.4.2")


@pytest.fixture
def original(import_bridge: Callable[[], ModuleType]) -> Callable[[], dict[str, Any]]:
    """Return a function that gives the attributes of the imported bridge class now."""
    return lambda: dict(vars(import_bridge().Qwen35VLMoEBridge))


def is_patched(module: ModuleType) -> bool:
    return hasattr(module.Qwen35VLMoEBridge.mapping_registry, "__wrapped__")


def layers(method: Any) -> int:
    """Return how many wrappers a method has."""
    return 1 + layers(method.__wrapped__) if hasattr(method, "__wrapped__") else 0


def test_mtp_apply_after_the_import(
    import_bridge: Callable[[], ModuleType], original: Callable[[], dict[str, Any]]
) -> None:
    before = original()
    mtp_bridge_patch.apply()
    assert is_patched(import_bridge())
    assert mtp_bridge_patch.applied() == IDS
    mtp_bridge_patch.revert()
    assert mtp_bridge_patch.applied() == ()
    after = original()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_mtp_apply_before_the_import(import_bridge: Callable[[], ModuleType]) -> None:
    finders = list(sys.meta_path)
    mtp_bridge_patch.apply()
    assert "megatron" not in sys.modules
    module = import_bridge()
    assert is_patched(module)
    assert "exec_module" not in vars(module.__spec__.loader)  # type: ignore[union-attr]
    upstream = inspect.unwrap(module.Qwen35VLMoEBridge.mapping_registry)
    mtp_bridge_patch.revert()
    assert sys.meta_path == finders
    assert module.Qwen35VLMoEBridge.mapping_registry is upstream
    assert "build_conversion_tasks" not in vars(module.Qwen35VLMoEBridge)


def test_reverted_before_the_import(import_bridge: Callable[[], ModuleType]) -> None:
    mtp_bridge_patch.apply()
    mtp_bridge_patch.revert()
    assert not is_patched(import_bridge())


def test_reloaded_module_is_patched_and_restored(import_bridge: Callable[[], ModuleType]) -> None:
    mtp_bridge_patch.apply()
    module = import_bridge()
    first = module.Qwen35VLMoEBridge
    assert importlib.reload(module).Qwen35VLMoEBridge is not first
    assert is_patched(module)
    mtp_bridge_patch.revert()
    assert not is_patched(module)
    assert not hasattr(first.mapping_registry, "__wrapped__")


def test_apply_and_revert_are_idempotent(
    import_bridge: Callable[[], ModuleType], original: Callable[[], dict[str, Any]]
) -> None:
    before = original()
    finders = list(sys.meta_path)
    assert mtp_bridge_patch.apply() is mtp_bridge_patch.apply()
    assert is_patched(import_bridge())
    mtp_bridge_patch.revert()
    mtp_bridge_patch.revert()
    assert original() == before
    assert sys.meta_path == finders


@pytest.mark.parametrize("bridge", ["Qwen35VLMoEBridge", "Qwen35VLBridge", "Qwen35MoEBridge", "Qwen35Bridge"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_wrapped_once(
    import_bridge: Callable[[], ModuleType], bridge: str, name: str
) -> None:
    mtp_bridge_patch.apply()
    assert layers(getattr(getattr(import_bridge(), bridge), name)) == 1


def test_patched_restores_what_was_there(import_bridge: Callable[[], ModuleType]) -> None:
    module = import_bridge()
    with mtp_bridge_patch.patched() as status:
        assert [fix.id for fix in status.applied] == list(IDS)
        with mtp_bridge_patch.patched():
            assert is_patched(module)
        assert is_patched(module)
        with mtp_bridge_patch.patched():
            mtp_bridge_patch.revert()
        assert is_patched(module)
    assert not is_patched(module)
    mtp_bridge_patch.apply()
    with mtp_bridge_patch.patched():
        pass
    assert is_patched(module)


def test_patched_restores_after_an_error(import_bridge: Callable[[], ModuleType]) -> None:
    with contextlib.suppress(KeyError), mtp_bridge_patch.patched():
        raise KeyError
    assert not is_patched(import_bridge())


def test_failing_fix_takes_the_others_along(
    import_bridge: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_bridge()
    finders = list(sys.meta_path)
    broken = dataclasses.replace(FIX, id="mtp-broken", modules={BRIDGE: lambda module: module.no_such_name})
    monkeypatch.setattr("mtp_bridge_patch.patch.FIXES", (FIX, broken))
    with pytest.raises(AttributeError, match="no_such_name"):
        mtp_bridge_patch.apply()
    assert not is_patched(module)
    assert mtp_bridge_patch.applied() == ()
    assert sys.meta_path == finders


def test_failing_install_fails_the_import(
    install_release: Callable[..., Path], import_bridge: Callable[[], ModuleType]
) -> None:
    site = install_release("0.4.2", own=True)
    next(site.rglob("qwen35_vl_bridge.py")).write_text("")
    mtp_bridge_patch.apply()
    with pytest.raises(AttributeError, match="Qwen35VLMoEBridge"):
        import_bridge()


def test_importing_and_applying_import_nothing_else(release_042: Path) -> None:
    packages = [str(Path(str(package.__file__)).parents[1]) for package in (mtp_bridge_patch, mtp_checkpoint)]
    code = (
        f"import sys; sys.path[:0] = {[str(release_042), *packages]!r}; import mtp_bridge_patch;"
        "before = set(sys.modules); mtp_bridge_patch.apply(); names = before | set(sys.modules);"
        "tops = {name.split('.')[0] for name in names} - {'mtp_bridge_patch', 'mtp_checkpoint'};"
        "print(sorted(tops - sys.stdlib_module_names - {'__main__'}))"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_only_and_skip_choose_fixes(import_bridge: Callable[[], ModuleType]) -> None:
    with mtp_bridge_patch.patched(only=["mtp-layout-check"]) as status:
        assert mtp_bridge_patch.applied() == ("mtp-layout-check",)
        assert not is_patched(import_bridge())
        assert [fix.id for fix in status.needs] == ["mtp-layout-check"]
        with pytest.raises(RuntimeError, match="patched already, with mtp-layout-check; revert"):
            mtp_bridge_patch.apply()
    with mtp_bridge_patch.patched(skip=["mtp-layout-check"]):
        assert mtp_bridge_patch.applied() == tuple(fix for fix in IDS if fix != "mtp-layout-check")
        assert is_patched(import_bridge())
    with mtp_bridge_patch.patched(only=["mtp-layout-check", "fp8-per-expert"], skip=["mtp-layout-check"]):
        assert mtp_bridge_patch.applied() == ("fp8-per-expert",)
    with pytest.raises(ValueError, match=f"no fix mtp-nonsense; there are {', '.join(IDS)}$"):
        mtp_bridge_patch.apply(skip=["mtp-nonsense"])
    assert mtp_bridge_patch.applied() == ()


def test_status_patches_nothing(import_bridge: Callable[[], ModuleType]) -> None:
    status = mtp_bridge_patch.status_of()
    assert set(status.needs.values()) == {Need.APPLIES}
    assert not is_patched(import_bridge())
    assert mtp_bridge_patch.applied() == ()
