"""The suite on the bridge of `pytest --mtp-bridge package.module:Class`; pytest collects this file for it."""

from mtp_regression.conformance.testing import BridgeConformance


class TestBridge(BridgeConformance):
    """The checks of the bridge that the option names."""
