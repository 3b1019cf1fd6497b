"""The list of deferred packages: what this release asks for, and what it is."""

import json
import subprocess
import sys
from typing import Any

import pytest

from mtp_regression.deferred.imports import Listed, listed_packages

pytestmark = pytest.mark.xdist_group("deferred packages")  # one import for all

AT_WORK = {
    ("modelopt.torch.opt.dynamic", "DynamicModule"),
    ("modelopt.torch.quantization.utils", "is_quantized"),
}
"""Asked for by conversions, in some releases only then."""

NOT_IN = {"0.4.2": {"cuda"}}

SCRIPT = """
import importlib, json
from mtp_regression.deferred import imports as deferred
import mtp_regression.adapters.megatron_bridge

packages = deferred.deferred_packages()
asked = [key for package in deferred._deferred.values() for key in package.stand_ins]
import torch
wrong = []
for package, modules in deferred.listed_packages().items():
    for module, names in modules.items():
        for name, kind in names.items():
            if package not in packages:
                continue
            try:
                found = deferred._touched(module)
            except ModuleNotFoundError:
                continue  # as in another release
            real = getattr(found, name)
            if kind == "class":
                ordinary = isinstance(real, type) and type(real).__instancecheck__ is type.__instancecheck__
                right = ordinary and type(real).__subclasscheck__ is type.__subclasscheck__
            else:
                right = callable(real) and not isinstance(real, type)
                right = right and (kind != "whether" or real(torch.nn.Linear(1, 1)) is False)
            if not right:
                wrong.append([module, name, kind, str(type(real))])
print(json.dumps({"packages": packages, "asked": asked, "wrong": wrong}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def listed() -> Listed:
    return listed_packages()


def test_each_package_is_imported_and_none_is_touched(
    found: dict[str, Any], listed: Listed, release: str
) -> None:
    assert found["packages"] == sorted(set(listed) - NOT_IN.get(release, set()))


def test_each_name_is_asked_for(found: dict[str, Any], listed: Listed, release: str) -> None:
    names = {(module, name) for of in listed.values() for module, those in of.items() for name in those}
    asked = {(module, name) for module, name in found["asked"]}
    assert asked <= names
    if release == "0.6.2":  # the older ones ask for fewer
        assert asked == names - AT_WORK


def test_each_name_is_what_the_list_says(found: dict[str, Any]) -> None:
    assert found["wrong"] == []
