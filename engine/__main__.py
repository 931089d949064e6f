"""`python -m engine`: the same as the command `workflow-engine`."""

import sys

from .cli import main

sys.exit(main())
