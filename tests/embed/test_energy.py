"""What a piece of work costs: counters of a made machine are read, and what cannot be known is not made up."""

import os
from pathlib import Path

import pytest

from ehrbook.embed.energy import Meter, gpu_joules, rapl_joules

ZONES = {
    "intel-rapl:0": ("package-0", 5_000_000),
    "intel-rapl:0:0": ("core", 1_000_000),  # a part of the package, counted in it
    "intel-rapl:1": ("package-1", 250_000),
    "intel-rapl:2": ("psys", 9_000_000),  # the whole board, the packages in it
    "intel-rapl-mmio:0": ("package-0", 7_000_000),  # the first package again
}


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    for zone, (name, microjoules) in ZONES.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
    return tmp_path


@pytest.fixture(autouse=True)
def without_gpu() -> None:
    if gpu_joules():
        pytest.skip("the GPUs of this machine count too")


def spend(powercap: Path, **zones: int) -> None:
    for zone, microjoules in zones.items():
        (powercap / f"intel-rapl:{zone[1:]}" / "energy_uj").write_text(str(microjoules))


def test_packages_are_counted_and_nothing_twice(powercap: Path) -> None:
    assert rapl_joules(powercap) == {"processor intel-rapl:0": 5.0, "processor intel-rapl:1": 0.25}


def test_what_cannot_be_read_is_left_out(powercap: Path, tmp_path: Path) -> None:
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    (powercap / "intel-rapl:1" / "energy_uj").write_text("")
    assert rapl_joules(powercap) == {}
    assert rapl_joules(tmp_path / "nowhere") == {}
    (powercap / "intel-rapl:1" / "energy_uj").write_text("3000000")
    (powercap / "intel-rapl:0" / "name").unlink()
    assert rapl_joules(powercap) == {"processor intel-rapl:1": 3.0}


@pytest.mark.skipif(os.geteuid() == 0, reason="the owner of the machine may read everything")
def test_counters_for_the_owner_alone_are_left_out(powercap: Path) -> None:
    (powercap / "intel-rapl:0" / "energy_uj").chmod(0)
    assert rapl_joules(powercap) == {"processor intel-rapl:1": 0.25}


def test_a_block_costs_what_its_packages_spent(powercap: Path) -> None:
    with Meter(powercap) as meter:
        spend(powercap, _0=7_500_000, _1=1_000_000)
        sum(range(200_000))
    assert meter.joules == pytest.approx(2.5 + 0.75)
    assert meter.joules_of == "processor"
    assert meter.cpu_seconds > 0
    assert 0 < meter.seconds < 5


def test_a_counter_that_began_anew_is_no_measure(powercap: Path) -> None:
    with Meter(powercap) as meter:
        spend(powercap, _0=7_500_000, _1=1000)
    assert (meter.joules, meter.joules_of) == (None, None)


def test_a_counter_that_is_gone_does_not_count(powercap: Path) -> None:
    with Meter(powercap) as meter:
        spend(powercap, _0=6_000_000)
        (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules == 1.0


def test_where_nothing_is_counted_only_time_is_known(tmp_path: Path) -> None:
    with Meter(tmp_path) as meter:
        pass
    assert (meter.joules, meter.joules_of) == (None, None)
    assert meter.seconds > 0


def test_a_block_that_fails_is_measured_and_fails(powercap: Path) -> None:
    meter = Meter(powercap)
    with pytest.raises(FileNotFoundError), meter:
        spend(powercap, _0=6_000_000, _7=0)  # there is no such package
    assert meter.joules == 1.0
