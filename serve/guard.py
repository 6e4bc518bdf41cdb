"""Watches over one process so that it never outlives its parent.

    python -I -S guard.py FD GRACE PROGRAM ARGUMENT…

FD is the reading end of a pipe whose writing end only the parent holds: the lifeline. However the
parent ends, `kill -9` included, the kernel closes that end, and the guard reads end-of-file. It
then asks the whole process group to stop, and after GRACE seconds kills it. A byte in the pipe is
the parent's order to kill the program now; it comes this way so that the guard, being the parent,
can reap it.

Why a process and not PR_SET_PDEATHSIG: this works on macOS too, for programs that are not ours,
for their own children, and for a program that is stopped or stuck and could not watch a pipe
itself. It needs the standard library only and knows nothing about Hanlin.
"""

import os
import signal
import sys
import threading
import time

NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code, 128 + N if signal N ended it."""
    lifeline, grace, *program = arguments
    early: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # The group's signals are for the program. A handler, unlike SIG_IGN, is not inherited.
        signal.signal(number, lambda number, _: early.append(number))
    os.set_inheritable(int(lifeline), False)
    try:
        pid = os.posix_spawnp(program[0], program, os.environ)
    except OSError as error:
        sys.stderr.write(f"{program[0]} cannot be started: {error.strerror}\n")
        return NOT_FOUND
    for missed in tuple(early):  # meant for the program, and came before there was one
        os.kill(pid, missed)
    broken = threading.Event()
    what = (int(lifeline), pid, float(grace), broken)
    threading.Thread(target=watch, args=what, daemon=True).start()
    _, status = os.waitpid(pid, 0)
    if broken.is_set():
        os.killpg(0, signal.SIGKILL)  # nobody is left to sweep up what the program started
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def watch(lifeline: int, pid: int, grace: float, broken: threading.Event) -> None:
    """Wait for the lifeline to break or to bring an order, then end the program."""
    if not os.read(lifeline, 1):
        broken.set()
        os.killpg(0, signal.SIGTERM)
        time.sleep(grace)
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
