"""The bridges with an adapter that ships with the kit, each in an environment; for `noxfile.py`."""

ENVIRONMENTS = (
    "mcore-bridge-1.1.2",
    "mcore-bridge-1.6.5",
    "nemo-automodel-0.5.0",
    "nemo-automodel-0.7.0",
    "transformers-5.3.0",
    "transformers-5.24.0",
)
"""Names of the files of requirements/, without suffix: the adapter's name and the release."""
