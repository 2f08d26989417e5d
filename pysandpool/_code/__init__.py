"""Runs Python code in the interpreters of sandboxes: requests, sessions, and the messages that code sends back."""
