"""What a piece of work costs: seconds, and joules where the machine counts them.

Intel and AMD processors count energy in RAPL, which Linux shows under ``/sys/class/powercap`` (to the owner of the
machine alone, on most), NVIDIA GPUs in NVML. Both count the whole device, whoever works on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path
from types import TracebackType
from typing import Any

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Measure a block: ``seconds``, ``cpu_seconds`` of this process, and ``joules`` where they can be read.

    ``joules_of`` says of what: "processor", "GPU", "processor and GPU"; None where nothing is counted. ``powercap`` is
    where Linux shows the counters of processors.

    >>> with Meter() as meter:
    ...     _ = sum(range(1000))
    >>> meter.seconds > 0
    True
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap

    def __enter__(self) -> Meter:
        self._counters = {**rapl_joules(self._powercap), **gpu_joules()}
        self._started, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._started, time.process_time() - self._cpu
        now = {**rapl_joules(self._powercap), **gpu_joules()}
        spent = {name: now[name] - before for name, before in self._counters.items() if name in now}
        # A counter of RAPL begins anew when it is full; such a block has no measure rather than a wrong one.
        whole = spent and all(joules >= 0 for joules in spent.values())
        self.joules: float | None = round(sum(spent.values()), 3) if whole else None
        kinds = dict.fromkeys(name.split()[0] for name in spent)
        self.joules_of: str | None = " and ".join(kinds) if whole else None


def rapl_joules(folder: Path = POWERCAP) -> dict[str, float]:
    """Read the energy counters of the processors' packages, in joules; empty where there are none to read."""
    found = {}
    for zone in sorted(folder.glob("intel-rapl:*")):  # AMD's have the same name
        try:
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                found[f"processor {zone.name}"] = int((zone / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            continue
    return found


def gpu_joules() -> dict[str, float]:
    """Read the energy counters of the NVIDIA GPUs, in joules; empty without one, and without package nvidia-ml-py."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) or importlib.util.find_spec("pynvml") is None:
        return {}
    pynvml: Any = importlib.import_module("pynvml")
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
        return {
            f"GPU {place}": pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
            for place, handle in enumerate(handles)
        }
    except pynvml.NVMLError:  # GPUs before Volta do not count
        return {}
