"""The configurations: immutable values that check themselves, and the checks of their fields."""
