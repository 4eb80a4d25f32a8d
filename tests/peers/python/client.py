"""A gRPC C-core client that makes the calls that it is told to make.

Each line of standard input is JSON, and answered with a line of JSON:
  target    what to call, such as "xds:///greeter"
  security  "insecure", "xds", or paths: {"certificate", "key", "roots"}
  method    "/package.Service/Method"
  metadata  pairs of strings
  body      the request, a string
  count     how many calls, one after another
  timeout   of each, in seconds
  wait      whether calls wait for a connection
The answer is a list with {"ok": JSON} or {"code", "message"} for each call. It ends with its
standard input.

A line with "status" asks for what a client status discovery service tells instead: the one at that
address, or this process's own if it is null.
"""

import json
import sys

import grpc
import grpc.experimental


def read(path):
    with open(path, "rb") as file:
        return file.read()


def credentials(security):
    if security == "xds":
        return grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    if security == "insecure":
        return grpc.experimental.insecure_channel_credentials()
    return grpc.ssl_channel_credentials(
        root_certificates=read(security["roots"]),
        private_key=read(security["key"]),
        certificate_chain=read(security["certificate"]),
    )


def open_channel(job):
    options = [
        # What fails is tried again soon; a subchannel is this channel's own.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.secure_channel(job["target"], credentials(job["security"]), options=options)


def call(channel, job):
    # No serializers: messages are bytes.
    method = channel.unary_unary(job["method"])
    try:
        response = method(
            job["body"].encode(),
            timeout=job["timeout"],
            metadata=[tuple(pair) for pair in job["metadata"]],
            wait_for_ready=job["wait"],
        )
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}
    return {"ok": json.loads(response)}


def told(address):
    # Its messages take a while to load, and few clients are asked.
    import status

    return status.fetch(address or status.serve())


def main():
    channels = {}
    for line in sys.stdin:
        job = json.loads(line)
        if "status" in job:
            print(json.dumps(told(job["status"])), flush=True)
            continue
        key = json.dumps([job["target"], job["security"]])
        if key not in channels:
            channels[key] = open_channel(job)
        answers = [call(channels[key], job) for _ in range(job["count"])]
        print(json.dumps(answers), flush=True)
    for channel in channels.values():
        channel.close()


main()
