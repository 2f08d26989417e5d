"""What the operating system gives: launchers, control groups, the state of this machine, hints for failures."""
