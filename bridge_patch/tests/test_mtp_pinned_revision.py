"""Weights are read where config and tokenizer are: of the revision, and in the cache, that was asked for."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

FIX = "pinned-revision"
FAMILY = SimpleNamespace(architectures=["Qwen3_5MoeForConditionalGeneration"])
OTHER = SimpleNamespace(architectures=["LlamaForCausalLM"])
PATTERNS = ["*.safetensors", "model.safetensors.index.json"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder that stands for the hub's cache; it has two commits of a repository."""
    for revision in ("abc", "main"):
        (tmp_path / "cache" / "org" / "name" / revision).mkdir(parents=True)
        (tmp_path / "cache" / "org" / "name" / revision / "model.safetensors").touch()
    return tmp_path / "cache" / "org" / "name"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[dict[str, Any]]:
    """Put a stand-in into the place of huggingface_hub; gives what it was asked for."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        calls.append(options | {"repo_id": repo_id})
        if options.get("revision") == "unknown":
            raise FileNotFoundError("not in the cache")
        return str(cache / str(options.get("revision", "main")))

    hub: Any = ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download
    hub.constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return calls


@pytest.fixture
def pretrained(release: str) -> Callable[..., Any]:
    """Return upstream's class of a checkpoint, of each release."""
    del release
    module = importlib.import_module("megatron.bridge.models.hf_pretrained.base")
    return lambda *args, **options: module.PreTrainedBase(*args, **options)


def path(checkpoint: Any) -> Path:
    return Path(checkpoint.state.source.path)


def test_mtp_weights_are_of_the_revision(
    pretrained: Callable[..., Any], asked: list[Any], cache: Path
) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    checkpoint = pretrained(FAMILY, revision="abc", attn_implementation="eager", token=None)
    assert checkpoint.state is checkpoint.state
    assert asked == []  # not before weights are wanted
    assert path(checkpoint) == path(checkpoint) == cache / "abc"
    assert asked == [{"repo_id": "org/name", "revision": "abc", "allow_patterns": PATTERNS}]


def test_weights_are_of_the_cache_and_the_account_that_config_is_of(
    pretrained: Callable[..., Any], asked: list[Any], cache: Path
) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    options = {"cache_dir": "/other", "token": "secret", "local_files_only": True}
    assert path(pretrained(FAMILY, **options)) == cache / "main"
    assert asked == [{"repo_id": "org/name", "allow_patterns": PATTERNS} | options]


def test_hub_is_not_asked_offline(pretrained: Callable[..., Any], asked: list[Any]) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True
    path(pretrained(FAMILY, revision="abc"))
    assert asked[0]["local_files_only"] is True


def test_revision_that_is_not_there_is_named(pretrained: Callable[..., Any], asked: list[Any]) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    message = "no files of org/name at revision 'unknown': not in the cache"
    with pytest.raises(FileNotFoundError, match=f"^{message}$"):
        path(pretrained(FAMILY, revision="unknown"))
    assert len(asked) == 1


def test_commit_of_which_the_cache_has_the_config_alone_is_named(
    pretrained: Callable[..., Any], asked: list[Any], cache: Path
) -> None:
    (cache / "abc" / "model.safetensors").rename(cache / "abc" / "config.json")
    mtp_bridge_patch.apply(only=[FIX])
    with pytest.raises(FileNotFoundError, match=f"no weights of org/name are in {cache / 'abc'}; download"):
        path(pretrained(FAMILY, revision="abc"))
    assert len(asked) == 1


@pytest.mark.parametrize(("config", "options"), [(FAMILY, {}), (OTHER, {"revision": "abc"})])
def test_what_names_no_revision_and_other_families_are_upstreams(
    pretrained: Callable[..., Any], asked: list[Any], config: Any, options: dict[str, Any]
) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    assert path(pretrained(config, **options)) == Path("main of/org/name")
    assert asked == []


def test_folder_has_no_revisions(pretrained: Callable[..., Any], asked: list[Any], tmp_path: Path) -> None:
    mtp_bridge_patch.apply(only=[FIX])
    assert path(pretrained(FAMILY, tmp_path, revision="abc")) == tmp_path
    assert asked == []


def test_weights_in_memory_and_files_that_are_found_stay(
    pretrained: Callable[..., Any], asked: list[Any]
) -> None:
    found, in_memory = (pretrained(FAMILY, revision="abc") for _ in range(2))
    assert path(found) == Path("main of/org/name")
    in_memory.state = SimpleNamespace(source={})
    mtp_bridge_patch.apply(only=[FIX])
    assert path(found) == Path("main of/org/name")
    assert in_memory.state.source == {}
    assert asked == []


def test_reverted_it_is_upstreams(pretrained: Callable[..., Any], asked: list[Any]) -> None:
    upstream = vars(type(pretrained(FAMILY)))["state"]
    mtp_bridge_patch.apply(only=[FIX])
    assert vars(type(pretrained(FAMILY)))["state"].__doc__ == upstream.__doc__
    mtp_bridge_patch.revert()
    assert vars(type(pretrained(FAMILY)))["state"] is upstream
    assert path(pretrained(FAMILY, revision="abc")) == Path("main of/org/name")
    assert asked == []


@pytest.mark.parametrize(("name", "expected"), [("Qwen3_5ForCausalLM", {"revision": "abc"}), ("Llama", {})])
def test_architecture_is_looked_for_in_the_revision(
    install_release: Callable[[str], Path], name: str, expected: dict[str, str]
) -> None:
    install_release("0.4.0")
    module = importlib.import_module("megatron.bridge.models.conversion.auto_bridge")
    before = (vars(module.AutoBridge)["from_hf_pretrained"], module.safe_load_config_with_retry)
    mtp_bridge_patch.apply(only=[FIX])
    found = [
        module.AutoBridge.from_hf_pretrained(name, **options).hf_pretrained.asked
        for options in ({"revision": "abc", "attn_implementation": "eager"}, {})
    ]
    assert found == [expected, {}]
    mtp_bridge_patch.revert()
    assert (vars(module.AutoBridge)["from_hf_pretrained"], module.safe_load_config_with_retry) == before
