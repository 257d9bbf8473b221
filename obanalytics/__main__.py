"""Run the command line: ``python -m obanalytics``."""

import sys

from obanalytics.cli import main

sys.exit(main())
