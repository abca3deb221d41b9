"""`python -m kvtier_capture …`: the command line of the capture tool."""

import sys

from .cli import main

sys.exit(main())
