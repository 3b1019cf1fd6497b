"""Installs the stand-in of one release of Megatron-Bridge into a folder."""

import shutil
from pathlib import Path

STANDIN = Path(__file__).with_name("standin")
TEXT_MODULE = "megatron.bridge.models.qwen.qwen35_bridge"


def install(site: Path, release: str) -> None:
    """Copy the stand-in to a folder for `sys.path`, and leave the metadata of a distribution there.

    Args:
        site: The folder.
        release: Its version, which the stand-in goes by.
    """
    shutil.copytree(STANDIN, site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if release.startswith("0.4."):
        site.joinpath(*TEXT_MODULE.split(".")).with_suffix(".py").unlink()
    for package in [site / "megatron", *site.glob("megatron/**/")]:
        (package / "__init__.py").touch()
    metadata = site / f"megatron_bridge-{release}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: megatron-bridge\nVersion: {release}\n")
