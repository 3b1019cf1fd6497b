"""`python -m mtp_regression` is `mtpkit`, for launchers such as torchrun that want a module."""

from mtp_regression.cli import main

main()
