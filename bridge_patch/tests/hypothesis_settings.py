"""Hypothesis without a clock."""

from hypothesis import HealthCheck, settings

# Other processes may hold the cores meanwhile, so the time an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
