"""Fix `config-only-export`: exports of a model built from a config, and the record of its checkpoint."""
