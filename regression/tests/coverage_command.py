"""`mtpkit coverage`, run inside a test."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from mtp_regression.commands.app import app


def run(*arguments: object) -> Result:
    """Run the command with arguments."""
    return CliRunner().invoke(app, ["coverage", *map(str, arguments)], catch_exceptions=False)


def report(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Run the command with arguments; gives its exit code and its report."""
    result = run(*arguments, "--json")
    assert result.stdout, result.stderr
    return result.exit_code, json.loads(result.stdout)


def tiny(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Run the command on tiny dimensions; gives its exit code and its report."""
    return report(*arguments, "--scale", "tiny")
