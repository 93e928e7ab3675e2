"""A Slurm cluster of this machine alone, for tests: Debian's packages slurmctld, slurmd, slurm-client and munge."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
START_SECONDS = 30


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment in which Slurm's commands find the cluster. Skips the test where it cannot start."""
    programs = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
    paths = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in programs}
    if missing := [name for name, path in paths.items() if path is None]:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    host, configuration = socket.gethostname().partition(".")[0], folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, ports=_free_ports(2)))
    environment = {"SLURM_CONF": str(configuration)}
    key = folder / "munge.key"
    subprocess.run([str(paths["mungekey"]), "--create", f"--keyfile={key}"], check=True)
    munge = [f"--key-file={key}", f"--socket={folder}/munge.sock", f"--seed-file={folder}/munge.seed"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", "--foreground", "--force"]
    commands = [
        [str(paths["munged"]), *munge],
        [str(paths["slurmctld"]), "-D"],
        [str(paths["slurmd"]), "-D"],
    ]
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{Path(command[0]).name}.out").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            stack.callback(_stop, process)
            time.sleep(0.5)
        for _ in range(START_SECONDS):
            told = subprocess.run(
                ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
            )
            if told.stdout.strip() == "idle":
                break
            time.sleep(1)
        else:
            tails = [(folder / f"{name}.out").read_text()[-300:] for name in ("munged", "slurmctld", "slurmd")]
            pytest.skip(f"Slurm does not start here: {' '.join(' '.join(tails).split())}")
        try:
            yield environment
        finally:  # A daemon that ends leaves its jobs alone.
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            time.sleep(1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
