"""Installs and patches stand-in releases of Megatron-Bridge, so that no test needs it or torch."""

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.upstream.bridges import MODEL_BRIDGE_MODULE

from . import standin_release

BRIDGE_MODULE = "megatron.bridge.models.qwen_vl.qwen35_vl_bridge"
GETTERS = {"ep": "get_expert_model_parallel_group", "pp": "get_pipeline_model_parallel_group"}


def _megatron_modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "megatron"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder that is the only place where distributions and ``megatron`` are found.

    Whatever else is imported stays so; the real Megatron-Bridge, where it is imported, is back afterwards.
    """
    site = tmp_path / "site"
    site.mkdir()
    standard = [entry for entry in sys.path if "site-packages" not in entry and entry]
    monkeypatch.setattr(sys, "path", [str(site), *standard])
    real = _megatron_modules()
    for name in real:
        del sys.modules[name]
    mtp_bridge_patch.revert()
    yield site
    mtp_bridge_patch.revert()
    for name in _megatron_modules():
        del sys.modules[name]
    sys.modules.update(real)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a release's stand-in: one a session, so compiled once."""

    @cache
    def folder(release: str) -> Path:
        folder = tmp_path_factory.mktemp("standin")
        standin_release.install(folder, release)
        return folder

    return folder


@pytest.fixture
def install_release(site: Path, standin: Callable[[str], Path]) -> Callable[..., Path]:
    """Return a function that installs a stand-in of a release, and gives the folder it is installed in.

    Other tests have the same folder, unless the call says `own=True`: that one may be changed.
    """

    def install(release: str, *, own: bool = False) -> Path:
        folder = site if own else standin(release)
        if own:
            standin_release.install(site, release)
            importlib.invalidate_caches()
        sys.path.insert(0, str(folder))  # of the list that `site` takes away again
        return folder

    return install


@pytest.fixture
def import_bridge() -> Callable[[], ModuleType]:
    """Return a function that imports the bridge's module."""
    return lambda: importlib.import_module(BRIDGE_MODULE)


@pytest.fixture(params=["0.4.1", "0.4.2", "0.5.1", "0.6.2"])
def release(request: pytest.FixtureRequest, install_release: Callable[[str], Path]) -> str:
    """Install a stand-in of each release that most fixes are made for, and return which it is."""
    install_release(request.param)
    return str(request.param)


@pytest.fixture
def patched_module(release: str, import_bridge: Callable[[], ModuleType]) -> Callable[[str], ModuleType]:
    """Return a function that applies one fix alone to the release, and imports the bridge's module."""
    del release

    def patched(fix: str) -> ModuleType:
        mtp_bridge_patch.apply(only=[fix])
        return import_bridge()

    return patched


@pytest.fixture
def checkpoint() -> Callable[..., SimpleNamespace]:
    """Return a function that makes what Megatron-Bridge keeps as ``hf_pretrained``, of given keys."""

    def make(*keys: str) -> SimpleNamespace:
        source = SimpleNamespace(get_all_keys=lambda: list(keys))
        return SimpleNamespace(model_name_or_path="/models/tiny", state=SimpleNamespace(source=source))

    return make


@pytest.fixture
def chunk() -> Callable[..., SimpleNamespace]:
    """Return a function that makes a model's chunk: its parameters, config and process groups."""

    def make(*names: str, weight: Any = None, groups: Any = None, **config: Any) -> SimpleNamespace:
        if state := getattr(sys.modules.get(MODEL_BRIDGE_MODULE), "parallel_state", None):
            for kind, group in (groups or {}).items():  # 0.4.0 and 0.4.1 look for them there
                setattr(state, GETTERS[kind], lambda group=group: group)
        return SimpleNamespace(
            config=SimpleNamespace(**config),
            named_parameters=lambda: [(name, weight) for name in names],
            pg_collection=SimpleNamespace(**(groups or {})),
        )

    return make
