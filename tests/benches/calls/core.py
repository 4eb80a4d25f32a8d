"""A client on gRPC C-core: told lines, answers in lines, as tests/src/bench/roles.rs.

What Python itself costs is much, and the same with a plain target and with one of xDS: only the difference
of the two says anything.
"""

import json
import os
import resource
import sys
import threading
import time

import grpc

PATH = "/mesh.test.Echo/Unary"
METADATA = (("x-tenant", "blue"), ("x-version", "v7-beta"), ("x-shard", "11"))


def message(payload):
    """EchoRequest, by hand: field 1, length, bytes."""
    length, size = bytearray(), len(payload)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + payload


def cpu_ns():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


class Run:
    """Calls, a number of them at once."""

    def __init__(self, call, request, calls, in_flight):
        self.call, self.request = call, request
        self.left, self.lock = calls, threading.Lock()
        self.open, self.done = in_flight, threading.Event()
        self.latencies, self.failed = [], None

    def start(self):
        with self.lock:
            if self.left == 0 or self.failed:
                self.open -= 1
                if self.open == 0:
                    self.done.set()
                return
            self.left -= 1
        began = time.monotonic_ns()
        future = self.call.future(self.request, metadata=METADATA, timeout=30)
        future.add_done_callback(lambda future: self.end(future, began))

    def end(self, future, began):
        self.latencies.append(time.monotonic_ns() - began)
        if future.code() is not grpc.StatusCode.OK:
            self.failed = f"{future.code()}: {future.details()}"
        elif not future.result().startswith(self.request):
            self.failed = "the answer is not the echo"
        self.start()


def main():
    ready = json.loads(sys.stdin.readline())
    host, target = ready["address"], sys.argv[1]
    if target != "plain":
        os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = ready["bootstrap"]
    channel = grpc.insecure_channel(host if target == "plain" else f"xds:///{target}")
    call = channel.unary_unary(PATH)
    request = message(bytes([7]) * int(sys.argv[2]))
    call(request, metadata=METADATA, timeout=30, wait_for_ready=True)
    print("connected", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["features"]:
                print(f"gRPC C-core {grpc.__version__} from Python, {target}", flush=True)
            case ["run", calls, in_flight]:
                run = Run(call, request, int(calls), int(in_flight))
                cpu, wall = cpu_ns(), time.monotonic_ns()
                for _ in range(int(in_flight)):
                    run.start()
                run.done.wait()
                wall, cpu = time.monotonic_ns() - wall, cpu_ns() - cpu
                if run.failed:
                    sys.exit(run.failed)
                latencies = sorted(run.latencies)
                sample = {
                    "calls": int(calls),
                    "wall_ns": wall,
                    "p50_ns": latencies[len(latencies) // 2],
                    "p99_ns": latencies[len(latencies) * 99 // 100],
                    "instructions": None,
                    "cpu_ns": cpu,
                    "allocations": 0,
                    "bytes": 0,
                }
                print(json.dumps(sample), flush=True)
            case _:
                sys.exit(f"not understood: {line!r}")


main()
