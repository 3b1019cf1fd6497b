"""`python -m mtp_regression.maintenance JOB`."""

from mtp_regression.maintenance.app import app

app()
