"""`python -m mtp_regression` is `mtpkit`, for launchers such as torchrun that want a module."""

from mtp_regression.commands.app import main

main()
