"""Stand in for the service: seeded histories, and a loopback server that lists them.

Knows nothing of the rest of the package, so that one misreading of the API cannot sit on both
sides of a test.
"""

from obanalytics.simulator.digest import POLICIES, DigestGate
from obanalytics.simulator.faults import Fault
from obanalytics.simulator.history import (
    PLANTS,
    History,
    Plant,
    Planted,
    Scenario,
    demo,
    expired,
    simulate,
)
from obanalytics.simulator.server import KEY, SimulatorServer, dump, page_bytes, pages_as_files

__all__ = [
    "KEY",
    "PLANTS",
    "POLICIES",
    "DigestGate",
    "Fault",
    "History",
    "Plant",
    "Planted",
    "Scenario",
    "SimulatorServer",
    "demo",
    "dump",
    "expired",
    "page_bytes",
    "pages_as_files",
    "simulate",
]
