#!/usr/bin/env python3
"""Drives a run on a fio-spdk server, as a lab's own scripts would.

    pip install grpcio grpcio-tools
    python3 examples/bench.py --server=dut1:8765 --keys=~/.config/fio-spdk jobs/powercut.toml
    python3 examples/bench.py --server=unix:/run/fio-spdk.sock jobs/quickstart.toml

Snapshots of what the drive has promised are stored beside the job file before they are answered: only
then may a trigger's command run. proto/fio_spdk.proto says what each message means.
"""

import argparse
import importlib
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading

import grpc
from grpc_tools import protoc

ALIVE_EVERY_S = 1.0
MOST_MESSAGE_BYTES = 16 << 20
EXIT_CODES = {0: 4, 1: 2, 2: 4, 3: 6, 4: 2, 5: 4}  # by FailureKind


def protocol():
    """The modules that protoc makes of proto/fio_spdk.proto."""
    proto = pathlib.Path(__file__).resolve().parent.parent / "proto"
    made = tempfile.mkdtemp(prefix="fio-spdk-proto-")
    done = protoc.main(
        ["protoc", f"-I{proto}", f"--python_out={made}", f"--grpc_python_out={made}", "fio_spdk.proto"]
    )
    if done != 0:
        sys.exit("fio_spdk.proto could not be compiled")
    sys.path.insert(0, made)
    return importlib.import_module("fio_spdk_pb2"), importlib.import_module("fio_spdk_pb2_grpc")


def channel(server, keys):
    options = [
        ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ]
    if server.startswith("unix:"):
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


class Bench:
    """One run, and what is said to its server."""

    def __init__(self, pb, jobs):
        self.pb = pb
        self.jobs = jobs
        self.to_say = queue.Queue()
        self.state = None
        self.code = 4

    def messages(self):
        """What the server is told: something every second, or it takes this client for dead."""
        files = [self.pb.File(name=str(path), text=path.read_text()) for path in self.jobs]
        version = self.pb.ProtocolVersion(major=1, minor=0, program="bench.py")
        yield self.pb.ClientMessage(start=self.pb.Start(protocol=version, job_files=files, client="bench.py"))
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
            self.state = self.jobs[0].with_suffix(f".{message.accepted.run}.state")
            print(f"run {message.accepted.run} on {message.accepted.host}", file=sys.stderr)
        elif kind == "note":
            print(f"note: {message.note}", file=sys.stderr)
        elif kind == "progress":
            rates = message.progress.iops
            print(f"IOPS: {rates.read:.0f} read, {rates.write:.0f} written", file=sys.stderr)
        elif kind == "snapshot":
            self.keep(message.snapshot)
        elif kind == "command_wanted":
            # All that is needed to judge is safe now: this may cut the power.
            done = subprocess.run(
                message.command_wanted.command, shell=True, capture_output=True, text=True, check=False
            )
            self.say(
                command_ran=self.pb.CommandReport(
                    text=message.command_wanted.command,
                    status=f"exit status: {done.returncode}",
                    success=done.returncode == 0,
                    output=(done.stdout + done.stderr)[:65536],
                )
            )
        elif kind == "state_wanted":
            self.say(state=self.pb.State(missing="bench.py keeps no state of earlier runs"))
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

    def end(self, ended):
        if ended.HasField("failure"):
            print(f"error: {ended.failure.message}", file=sys.stderr)
            self.code = EXIT_CODES.get(ended.failure.kind, 4)
        else:
            self.code = 0
        for job in ended.report.jobs:
            print(job)
        self.to_say.put(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--server", required=True, help="dut1:8765 or unix:/run/fio-spdk.sock")
    parser.add_argument("--keys", default="~/.config/fio-spdk", help="ca.pem, client.pem, client.key")
    parser.add_argument("jobs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    pb, services = protocol()
    bench = Bench(pb, arguments.jobs)
    with channel(arguments.server, arguments.keys) as line:
        grpc.channel_ready_future(line).result(timeout=10)
        watchdog = None
        call = services.BenchStub(line).Drive(bench.messages())
        try:
            for message in call:
                if watchdog:
                    watchdog.cancel()
                bench.hear(message)
                # A server that says nothing for so long is gone.
                watchdog = threading.Timer(10, call.cancel)
                watchdog.daemon = True
                watchdog.start()
        except grpc.RpcError as why:
            print(f"error: {why.code().name}: {why.details()}", file=sys.stderr)
        finally:
            if watchdog:
                watchdog.cancel()
    return bench.code


if __name__ == "__main__":
    sys.exit(main())
