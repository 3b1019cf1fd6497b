"""`python -m mtp_regression.maintenance JOB`."""

from mtp_regression.commands.console import ended_by_sigterm
from mtp_regression.maintenance.app import app

with ended_by_sigterm():  # and with it the commands that a job has started
    app()
