"""File calls of a lease: init performs one operation on one name at a time, and Python composes them."""
