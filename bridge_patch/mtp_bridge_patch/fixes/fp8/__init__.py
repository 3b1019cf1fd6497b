"""Fix `fp8-per-expert`: what it loads, and the config that it saves."""
