"""State to stored form and back: pure computation, no I/O."""
