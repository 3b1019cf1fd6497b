"""Deferred imports: what is not run, what a touch runs, and that afterwards all is as without them."""

import importlib
import importlib.util
import inspect
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from mtp_regression.deferred import imports
from mtp_regression.deferred.imports import deferred_packages, deferring

FILES = {
    "seen.py": "ran = []\n",
    "made/__init__.py": """
import seen
seen.ran.append(__name__)
__version__ = '1'
from made.inner import Thing
""",
    "made/inner.py": """
import seen, time
time.sleep(0.02)
seen.ran.append(__name__)
from made import others
constant = 7
class Thing: pass
class Other: pass
def work(number): return number + 1
def has_thing(found): return isinstance(found, Thing)
""",
    "made/aside.py": "import seen\nseen.ran.append(__name__)\n",
    "made/others.py": "import seen\nseen.ran.append(__name__)\n",
    "made/broken.py": "def library():\n    raise ImportError('no libbroken.so')\nlibrary()\n",
    "user.py": """
import made
import made.inner as inner
import made.aside
from made.inner import Thing, has_thing, work
def annotated(thing: Thing, other: Thing = work) -> Thing: ...
""",
}
INNER = {"Thing": "class", "has_thing": "whether", "work": "function"}
LISTED = {"made": {"made.inner": INNER}, "absent": {}, "unasked": {}}
RAN = ["made", "made.inner", "made.others", "made.aside"]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that has imported a package, which is deferred, and taken names from it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "_deferred", {})
    monkeypatch.setattr(imports, "_to_fill", {})
    try:
        with deferring(LISTED):
            module = importlib.import_module("user")
        assert ran() == []
        yield module
    finally:
        # These alone: others that a test has caused to be imported may not bear it twice.
        own = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]


def ran() -> list[str]:
    """Return the package's modules that have been run, in order."""
    return list(sys.modules["seen"].ran) if "seen" in sys.modules else []


TOUCHES: dict[str, Callable[[Any], object]] = {
    "attribute of a module": lambda user: user.inner.constant,
    "version": lambda user: user.made.__version__,
    "dir": lambda user: dir(user.inner),
    "attribute that is set": lambda user: setattr(user.inner, "constant", 8),
    "attribute that is deleted": lambda user: delattr(user.inner, "constant"),
    "call": lambda user: user.work(1),
    "object": lambda user: user.Thing(),
    "base class": lambda user: _sub(user),
    "union": lambda user: user.Thing | None,
    "other side of a union": lambda user: None | user.Thing,
    "hash": lambda user: hash(user.Thing),
    "comparison": lambda user: user.Thing == user.made,
    "truth": lambda user: bool(user.work),
    "text": lambda user: repr(user.work),
    "attribute of a name": lambda user: user.work.__code__,
    "name that is not listed": lambda user: user.inner.Other,
    "star": lambda user: exec("from made.inner import *", vars(user)),
}


def _sub(user: Any) -> type:
    class Sub(user.Thing):
        pass

    return Sub


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=list(TOUCHES))
def test_a_touch_is_the_import(user: Any, touch: Callable[[Any], object]) -> None:
    held = user.Thing, user.work  # before: stand-ins
    touch(user)
    assert ran() == RAN
    assert deferred_packages() == []
    assert user.inner is sys.modules["made.inner"]
    assert user.made is sys.modules["made"]
    assert [type(module) for module in (user.made, user.inner)] == [ModuleType, ModuleType]
    assert [type(module.__loader__) for module in (user.made, user.inner)] == [SourceFileLoader] * 2
    assert [vars(module)["__spec__"].loader for module in (user.made, user.inner)] == [
        module.__loader__ for module in (user.made, user.inner)
    ]
    assert user.made.inner is user.inner
    # The module that held stand-ins holds what they stood for; other holders are answered by it.
    assert user.Thing is vars(user.inner)["Thing"] is vars(user.made)["Thing"]
    assert type(user.Thing) is type
    assert type(user.work) is FunctionType
    assert held[0] == user.Thing
    assert hash(held[0]) == hash(user.Thing)
    assert held[1](1) == 2
    assert isinstance(user.Thing(), held[0])
    assert pickle.loads(pickle.dumps(held[1])) is user.work


def test_what_is_set_before_the_import_is_kept(user: Any) -> None:
    user.inner.constant = 8
    assert sys.modules["made.inner"].constant == 8


def test_one_question_has_its_answer_without_the_import(user: Any) -> None:
    assert not isinstance(3, user.Thing)
    assert not issubclass(int, user.Thing)
    assert user.has_thing(3) is False
    assert isinstance(user.Thing, type)
    assert not isinstance(user.work, type)
    assert isinstance(user.work, FunctionType)
    assert ran() == []
    thing, held = user.Thing, user.has_thing
    made = thing()
    assert isinstance(made, thing)
    assert held(made) is True


def test_who_walks_over_modules_and_holds_names_imports_nothing(user: Any) -> None:
    inspect.getmodule(_sub)
    inspect.stack()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        warnings.warn("of somebody", stacklevel=1)
    for module in list(sys.modules.values()):
        hasattr(module, "__warningregistry__")
        hasattr(module, "__path__")
    inspect.getsource(user.inner)
    assert pickle.loads(pickle.dumps([user.work]))[0] is user.work
    assert user.annotated.__annotations__["thing"] is user.Thing
    spec = importlib.util.find_spec("made.others")
    assert spec is not None
    assert spec.origin == str(Path(user.__file__).parent / "made" / "others.py")
    assert importlib.import_module("made.others").__name__ == "made.others"
    assert ran() == []
    assert deferred_packages() == ["made"]


def test_names_are_the_same_object_each_time(user: Any) -> None:
    from made.inner import Thing  # type: ignore[import-not-found]

    assert Thing is user.Thing
    assert ran() == []


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("name", ["absent", "made.absent"])
def test_what_is_not_installed_is_missing_at_once(name: str) -> None:
    with deferring(LISTED), pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
        importlib.import_module(name)


def test_an_import_that_fails_does_so_at_each_touch_of_it(user: Any) -> None:
    broken = importlib.import_module("made.broken")
    for _ in range(2):
        with pytest.raises(ImportError, match=r"^no libbroken\.so$") as caught:
            broken.anything  # noqa: B018
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert (Path(frames[-1].filename).name, frames[-1].name) == ("broken.py", "library")
    assert user.work(1) == 2
    assert user.Thing is user.inner.Thing


@pytest.mark.usefixtures("user")
def test_a_name_that_is_not_there_is_an_import_error(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("")
    with deferring({"late": {"late": {"gone": "function"}}}):
        from late import gone  # type: ignore[import-not-found]
    with pytest.raises(ImportError, match="cannot import name 'gone' from 'late'"):
        gone()


def test_threads_that_touch_at_once_wait_for_one_import(user: Any) -> None:
    start, found = threading.Barrier(8), []

    def touch(what: Callable[[], Any]) -> None:
        start.wait()
        found.append(what())

    held = user.work
    whats = [lambda: user.inner.constant, lambda: held(6)] * 4
    threads = [threading.Thread(target=touch, args=(what,)) for what in whats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert ran() == RAN


def test_a_touch_says_so_and_who(user: Any, capfd: pytest.CaptureFixture[str]) -> None:
    user.work(1)
    assert capfd.readouterr().err.startswith(f"made was deferred, and is used: made.inner, by {__file__}:")


@pytest.mark.usefixtures("user")
def test_after_the_block_only_what_was_asked_for_is_deferred(tmp_path: Path) -> None:
    (tmp_path / "unasked.py").write_text("here = 1\n")
    assert type(importlib.import_module("unasked")) is ModuleType
    assert deferred_packages() == ["made"]


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(("switch", "ran_at_once"), [("0", True), ("1", False)])
def test_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str, ran_at_once: bool) -> None:
    (tmp_path / "later.py").write_text("here = 1\n")
    monkeypatch.setenv(imports.SWITCH, switch)
    with deferring({"later": {}}):
        assert ("here" in vars(importlib.import_module("later"))) is ran_at_once


@pytest.mark.usefixtures("user")
def test_what_was_imported_before_stays() -> None:
    with deferring({"json": {}}):
        assert type(importlib.import_module("json")) is ModuleType
        assert type(importlib.import_module("json.tool")) is ModuleType
