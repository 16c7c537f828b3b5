"""What the tools raise where a person must do something about it."""

from engines.errors import EngineError


class ToolError(EngineError):
    """A file, a setting or a data set that a tool cannot use; the message says what, where and what to do."""

    exit_code = 2
