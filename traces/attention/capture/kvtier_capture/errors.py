"""The errors of the tool, each one line for people. The command line exits with `exit_code`."""


class CaptureError(Exception):
    """Bad input or an unsupported model: what was given, what was expected."""

    exit_code = 2


class CaptureStopped(CaptureError):
    """The input was right, but the capture could not be finished (a full disk, an interrupt): it can be resumed."""

    exit_code = 1
