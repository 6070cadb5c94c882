"""A pytest fixture that starts UDP reflectors for a test, and asks and watches UDP services.

It needs the program in $UDP_REFLECTOR or in $PATH. Put this file beside your tests, and say
`pytest_plugins = ["pytest_reflector"]` in the conftest.py at their root:

    def test_the_port_is_forwarded(reflector):
        server = reflector.start("0.0.0.0:0", "--netns", "pod", "--echo-info")
        assert reflector.probe("192.0.2.1:5353")["verdict"] == "ok"
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager

import pytest

# How long a program may take to say that it is ready, or to end; probes have --timeout.
PATIENCE_S = 10


@pytest.fixture
def reflector():
    """Starts, probes and watches; what it has started is gone when the test is over."""
    tool = Reflector()
    try:
        yield tool
    finally:
        tool.stop()


class Reflector:
    def __init__(self):
        self.program = os.environ.get("UDP_REFLECTOR", "reflector")
        self.servers = []

    def start(self, listen="127.0.0.1:0", *options):
        """Starts a reflector, and returns the addresses at which it answers."""
        server, line = self._start("--listen", listen, "--ready-line", "--until-eof", *options)
        self.servers.append(server)
        word, *addresses = line.split()
        assert word == "ready" and addresses, f"the reflector said {line!r}"
        return addresses

    def stop(self):
        """Stops what was started, and fails if it had failed."""
        servers, self.servers = self.servers, []
        for server in servers:
            said, _ = server.communicate(timeout=PATIENCE_S)
            assert server.returncode == 0, f"the reflector failed: {said}{server.log()}"

    def probe(self, target, *options):
        """What `reflector probe --json` prints: 'verdict' is ok, timeout, wrong-source, loss,
        refused or unreachable, 'exit_code' is 0 if it is what --expect says, too."""
        command = [self.program, "probe", target, "--json", *options]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.stdout, f"{command}: {run.stderr}"
        return json.loads(run.stdout)

    @contextmanager
    def watch(self, target, *options):
        """Watches the target during a `with`, behind which what it yields is the summary that
        `reflector watch --json` prints, with its 'gaps' and 'exit_code'."""
        watch, _ = self._start("watch", target, "--json", *options)
        summary = {}
        # What is not read as it comes would block it.
        reader = threading.Thread(target=lambda: summary.update(last_object(watch.stdout)))
        reader.start()
        try:
            yield summary
        finally:
            watch.send_signal(signal.SIGINT)
            try:
                watch.wait(PATIENCE_S)
            finally:
                watch.kill()
                reader.join()
        assert summary.get("type") == "summary", f"watch {target}: {watch.log()}"

    def _start(self, *arguments):
        """Starts the program, and waits for its first line."""
        command = [self.program, *arguments]
        process = Program(command)
        timer = threading.Timer(PATIENCE_S, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            process.communicate()
            pytest.fail(f"{command} is not ready: {process.log()}")
        return process, line


class Program(subprocess.Popen):
    def __init__(self, command):
        # A file, since nobody reads it while the program runs.
        self._log_file = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        super().__init__(command, stdin=pipe, stdout=pipe, stderr=self._log_file, text=True)

    def log(self):
        self._log_file.seek(0)
        return self._log_file.read()


def last_object(lines):
    line = "{}"
    for line in lines:
        pass
    return json.loads(line)
