"""Where pytest keeps, up to its summary, what a bridge could not be asked for."""

import pytest

NOT_COLLECTED = pytest.StashKey[list[str]]()
