"""The stand-in's parameters beside those of the real TransformerEngine."""
