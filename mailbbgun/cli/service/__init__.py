"""Commands about the service itself: its state, its settings, its store of files and its encryption keys."""
