"""What runs inside: the Python code of the interpreter that all sandboxes of a configuration are copied from.

The modules of this folder but `source` use the standard library of Python 3.9 and nothing else, and are never imported
by the host. `source` joins them to one text, which the zygote hands to the interpreter.
"""
