"""What a bridge has to carry: one scenario (`scenario`), and all of them (`table`)."""
