"""What the process of a door holds."""

import os
from pathlib import Path

from tests.flow.service import Service


class DoorFigures:
    """What the door's process holds now: octets of memory, open files, threads."""

    def __init__(self, door: Service) -> None:
        process = Path(f"/proc/{door.processes['smtpd'].pid}")
        (resident,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
        self.memory = int(resident.split()[1]) * 1024
        self.files = len(os.listdir(process / "fd"))
        self.threads = len(os.listdir(process / "task"))
