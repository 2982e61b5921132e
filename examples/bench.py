#!/usr/bin/env python3
"""Drives a run on a fio-spdk server, as a lab's own scripts would.

    pip install grpcio grpcio-tools
    python3 examples/bench.py --server=dut1:8765 --keys=~/.config/fio-spdk jobs/powercut.toml
    python3 examples/bench.py --server=unix:/run/fio-spdk.sock jobs/null.toml --option runtime=1s
    python3 examples/bench.py --server=dut1 jobs/powercut.toml --option verify_state_load=true --state=jobs/powercut.RUN.state

Snapshots of what the drive has promised are stored beside the job file before they are answered: only
then may a trigger's command run. The report goes to standard output, as --output-format=json prints it,
all else to standard error; the exit code is that of the run. proto/fio_spdk.proto says what each message
means.
"""

import argparse
import importlib
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

import grpc
from grpc_tools import protoc

ALIVE_EVERY_S = 1.0
VANISHED_AFTER_S = 10.0
MOST_MESSAGE_BYTES = 16 << 20
EXIT_IO = 4


def protocol():
    """The modules that protoc makes of proto/fio_spdk.proto."""
    proto = pathlib.Path(__file__).resolve().parent.parent / "proto"
    with tempfile.TemporaryDirectory(prefix="fio-spdk-proto-") as made:
        arguments = [f"-I{proto}", f"--python_out={made}", f"--grpc_python_out={made}", "fio_spdk.proto"]
        if protoc.main(["protoc", *arguments]) != 0:
            print("error: fio_spdk.proto could not be compiled", file=sys.stderr)
            sys.exit(EXIT_IO)
        sys.path.insert(0, made)
        return importlib.import_module("fio_spdk_pb2"), importlib.import_module("fio_spdk_pb2_grpc")


def channel(server, keys):
    options = [
        ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),
    ]
    if server.startswith("unix:"):
        # Without, it would be the socket's path, which servers of HTTP/2 refuse as no name of a host.
        options.append(("grpc.default_authority", "localhost"))
        return grpc.insecure_channel(server, options)
    keys = pathlib.Path(keys).expanduser()
    certificates = grpc.ssl_channel_credentials(
        root_certificates=(keys / "ca.pem").read_bytes(),
        private_key=(keys / "client.key").read_bytes(),
        certificate_chain=(keys / "client.pem").read_bytes(),
    )
    return grpc.secure_channel(server if ":" in server else f"{server}:8765", certificates, options)


def store(path, content):
    """Whole or not at all, and on stable storage when this comes back."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def triggers(jobs, options):
    """The commands that a trigger of these jobs may run here: a server does not say what this machine does."""
    found = {value for name, value in options if name == "trigger"}
    for text in jobs.values():
        document = tomllib.loads(text)
        for job in [document, document.get("global", {}), *document.get("job", [])]:
            if isinstance(job, dict) and isinstance(job.get("trigger"), str):
                found.add(job["trigger"])
    return found


class Bench:
    """One run, and what is said to its server."""

    def __init__(self, pb, jobs, options, state):
        self.pb = pb
        self.jobs = {path: path.read_text() for path in jobs}
        self.options = options
        self.commands = triggers(self.jobs, options)
        self.earlier = state
        self.to_say = queue.Queue()
        self.state = None
        self.is_safe = False
        self.code = EXIT_IO

    def messages(self):
        """What the server is told: something every second, or it takes this client for dead."""
        start = self.pb.Start(
            protocol=self.pb.ProtocolVersion(major=1, minor=0, program="bench.py"),
            job_files=[self.pb.File(name=str(path), text=text) for path, text in self.jobs.items()],
            overrides=[self.pb.Option(name=name, value=value) for name, value in self.options],
            client="bench.py",
        )
        yield self.pb.ClientMessage(start=start)
        while True:
            try:
                message = self.to_say.get(timeout=ALIVE_EVERY_S)
            except queue.Empty:
                message = self.pb.ClientMessage(alive=self.pb.Alive())
            if message is None:
                return
            yield message

    def say(self, **what):
        self.to_say.put(self.pb.ClientMessage(**what))

    def hear(self, message):
        kind = message.WhichOneof("what")
        if kind == "accepted":
            # Hexadecimal digits: a server does not say where this machine writes.
            run = f"{int(message.accepted.run, 16):032x}"
            self.state = next(iter(self.jobs)).with_suffix(f".{run}.state")
            print(f"run {message.accepted.run} on {message.accepted.host}", file=sys.stderr)
        elif kind == "note":
            print(f"note: {message.note}", file=sys.stderr)
        elif kind == "progress":
            rates = message.progress.iops
            print(f"IOPS: {rates.read:.0f} read, {rates.write:.0f} written", file=sys.stderr)
        elif kind == "snapshot":
            self.keep(message.snapshot)
        elif kind == "command_wanted":
            self.command(message.command_wanted.command)
        elif kind == "state_wanted":
            if self.earlier:
                self.say(state=self.pb.State(snapshot=self.earlier.read_bytes()))
            else:
                self.say(state=self.pb.State(missing="bench.py was given no --state"))
        elif kind == "ended":
            self.end(message.ended)

    def keep(self, snapshot):
        failure = ""
        try:
            if snapshot.content:
                store(self.state, snapshot.content)
        except OSError as why:
            failure = str(why)
        self.say(stored=self.pb.Stored(number=snapshot.number, failure=failure))
        if snapshot.cause == self.pb.SNAPSHOT_CAUSE_TRIGGER and not failure:
            self.is_safe = True
            print(f"trigger: {snapshot.trigger.why}; the state is safe in {self.state}", file=sys.stderr)

    def command(self, text):
        """All that is needed to judge is safe now: this may cut the power."""
        if text not in self.commands:
            status = "not run: it is no command of this client's job"
            print(f"note: {text!r} was {status}", file=sys.stderr)
            self.say(command_ran=self.pb.CommandReport(text=text, status=status))
            return
        began = time.monotonic_ns()
        done = subprocess.run(text, shell=True, capture_output=True, text=True, errors="replace", check=False)
        report = self.pb.CommandReport(
            text=text,
            status=f"exit status: {done.returncode}",
            success=done.returncode == 0,
            output=(done.stdout + done.stderr)[:16384],
            took_ns=time.monotonic_ns() - began,
        )
        self.say(command_ran=report)

    def end(self, ended):
        if ended.HasField("failure"):
            print(f"error: {ended.failure.message.removeprefix('error: ')}", file=sys.stderr)
        if ended.HasField("exit_code"):
            self.code = ended.exit_code
        if ended.report_json:
            print(ended.report_json, end="")
        self.to_say.put(None)

    def lost(self, why):
        """The server's machine is gone: behind a trigger, that is what was wanted."""
        if self.is_safe:
            print("the machine went away after the trigger, as was to be expected", file=sys.stderr)
            self.code = 0
        else:
            silent = why.code() == grpc.StatusCode.CANCELLED
            what = f"silent for {VANISHED_AFTER_S:.0f} s" if silent else f"{why.code().name}: {why.details()}"
            print(f"error: {what}", file=sys.stderr)


def option(text):
    name, is_there, value = text.partition("=")
    if not is_there:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE, such as runtime=10s")
    return name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", required=True, help="dut1:8765 or unix:/run/fio-spdk.sock")
    parser.add_argument("--keys", default="~/.config/fio-spdk", help="ca.pem, client.pem, client.key")
    parser.add_argument(
        "--option", action="append", default=[], type=option, metavar="NAME=VALUE", help="for all jobs, such as runtime=1s"
    )
    parser.add_argument("--state", type=pathlib.Path, help="the snapshot to judge by, for verify_state_load")
    parser.add_argument("jobs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    pb, services = protocol()
    bench = Bench(pb, arguments.jobs, arguments.option, arguments.state)
    with channel(arguments.server, arguments.keys) as line:
        try:
            grpc.channel_ready_future(line).result(timeout=10)
        except grpc.FutureTimeoutError:
            print(f"error: {arguments.server} does not answer, or does not take the certificate", file=sys.stderr)
            return EXIT_IO
        call = services.BenchStub(line).Drive(bench.messages())
        # Ctrl-C ends the run in order; a second one does not wait for its devices.
        signal.signal(signal.SIGINT, lambda *_: bench.say(end=pb.End(signal=signal.SIGINT)))
        watchdog = None
        try:
            while True:
                # A server that says nothing for so long is gone.
                watchdog = threading.Timer(VANISHED_AFTER_S, call.cancel)
                watchdog.daemon = True
                watchdog.start()
                message = next(call, None)
                watchdog.cancel()
                if message is None:
                    break
                bench.hear(message)
        except grpc.RpcError as why:
            bench.lost(why)
        finally:
            watchdog.cancel()
    return bench.code


if __name__ == "__main__":
    sys.exit(main())
