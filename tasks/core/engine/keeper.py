"""Run a command that may not outlive the build:  keeper.py DESCRIPTOR COMMAND...

The build starts this small process, holding the other end of the pipe DESCRIPTOR.  When the build
dies, however it dies, the pipe closes, and the command's whole process group is ended: SIGTERM, and
half a second later SIGKILL.  When this process dies, the kernel kills the command.  It imports
nothing of ours, so that it starts in a moment.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE = 0.5
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the command; end as it ends."""
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    # The group's signals are for the command; this process waits to tell how it ended.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    own = os.getpid()

    def tie() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:
            os._exit(1)

    try:
        child = subprocess.Popen(command, preexec_fn=tie)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        raise SystemExit(127) from None
    ended = os.pidfd_open(child.pid)
    ready, _, _ = select.select([pipe, ended], [], [])
    if pipe in ready:
        end_group(child)
    finish(child.wait())


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End the process group, this process included if it comes to that."""
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


def finish(status: int) -> None:
    """End as the command did, by exit status or by signal."""
    if status < 0:
        if -status in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
