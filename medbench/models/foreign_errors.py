"""How packages fail on a config or a file that is not theirs: each in its own way.

Not what the disk says (OSError), and not what is not installed (ImportError).
"""

NOT_ITS_OWN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
