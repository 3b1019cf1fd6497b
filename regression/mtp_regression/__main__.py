"""`python -m mtp_regression` is `mtpkit`, for launchers such as torchrun that want a module."""

import sys

try:
    from mtp_regression.commands.app import main
except ModuleNotFoundError as error:  # the kit need not be installed, and then its needs may not be either
    package = str(error.name).partition(".")[0]
    if package.startswith("mtp_"):
        raise
    print(f"mtpkit: {error}; `python3 -m pip install {package}` brings it", file=sys.stderr)
    sys.exit(2)

main()
