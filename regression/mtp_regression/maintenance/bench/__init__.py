"""How long the generator and a round trip take, beside the alternatives."""
