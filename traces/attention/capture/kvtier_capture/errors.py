"""The one error of the tool: bad input or an unsupported model, said in one line."""


class CaptureError(Exception):
    """The message is one line for people: what was given, what was expected. The command line exits with 2."""
