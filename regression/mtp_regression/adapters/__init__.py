"""One module a bridge; each holds an adapter, `mtp_regression.adapter.Adapter`."""
