"""What the tools raise where a person must do something about it."""


class ToolError(Exception):
    """A file, a setting or a data set that a tool cannot use; the message says what, where and what to do."""
