"""What depends on the operating system: launchers, control groups, the state of this machine, hints for failures."""
