"""What a CI sees of a bridge that fails in pytest: the sentences, and where, in JUnit's XML."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

SUITE = """
from in_memory_mistakes import ReversesRows
from mtp_regression import BridgeConformance

class TestIt(BridgeConformance):
    bridge = ReversesRows
    only = ["packed-tp1::stream"]

def test_one(roundtrip, qwen36_checkpoint):
    assert roundtrip(ReversesRows, qwen36_checkpoint, stages=["stream"]).passed
"""


def test_messages_are_sentences_and_properties_say_where(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "rank_functions"), prepend=":")
    pytester.makepyfile(test_it=SUITE)
    pytester.runpytest_subprocess("--junit-xml=junit.xml", "-p", "no:xdist").assert_outcomes(failed=2)
    suite, single = ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    said = "wrong: mtp.fc.weight: rows reversed"
    for case, start in (
        (suite, f"AssertionError: packed-tp1::stream: {said}"),
        (single, f"AssertionError: assert False\n +  where False = <round trip: stream wrong; {said}"),
    ):
        (failure,) = case.iter("failure")
        assert failure.attrib["message"].startswith(start)
    properties = {found.attrib["name"]: found.attrib["value"] for found in suite.iter("property")}
    assert properties == {"checkpoint": "packed", "layout": "tp1", "stage": "stream", "verdict": "wrong"}
