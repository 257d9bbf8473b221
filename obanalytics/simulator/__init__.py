"""Stand in for the service: seeded histories, and a loopback server that lists them.

Knows nothing of the rest of the package, so that one misreading of the API cannot sit on both
sides of a test.
"""

from obanalytics.simulator.digest import POLICIES, DigestGate
from obanalytics.simulator.faults import Fault
from obanalytics.simulator.history import History, Plant, Planted, Scenario, demo, expired, simulate
from obanalytics.simulator.server import SimulatorServer, dump, page_bytes

__all__ = [
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
    "simulate",
]
