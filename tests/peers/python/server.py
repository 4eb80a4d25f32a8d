"""A gRPC C-core server that answers every call with what it knows of it.

The argument is JSON:
  name      what the server calls itself in its answers
  security  "insecure", "xds", or paths: {"certificate", "key", "roots"} (clients must show one)

The first line of standard output is JSON with the server's address. It ends with its standard
input.
"""

import json
import socket
import sys
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def __init__(self, name):
        self._name = name

    def service(self, details):
        # No serializers: messages are bytes.
        return grpc.unary_unary_rpc_method_handler(self._answer(details.method))

    def _answer(self, method):
        def answer(request, context):
            identities = context.peer_identities() or []
            return json.dumps(
                {
                    "server": self._name,
                    "method": method,
                    "body": request.decode(),
                    "peer": [identity.decode() for identity in identities],
                }
            ).encode()

        return answer


def read(path):
    with open(path, "rb") as file:
        return file.read()


def credentials(security):
    if security == "xds":
        return grpc.xds_server_credentials(grpc.insecure_server_credentials())
    if security == "insecure":
        return grpc.insecure_server_credentials()
    return grpc.ssl_server_credentials(
        [(read(security["key"]), read(security["certificate"]))],
        root_certificates=read(security["roots"]),
        require_client_auth=True,
    )


def main():
    config = json.loads(sys.argv[1])
    # An xDS server's listener goes by its address, so that "any port" is not enough for it. This
    # keeps one that the system has chosen; the server's own socket shares it.
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % reserved.getsockname()[1]

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        handlers=[Echo(config["name"])],
        options=[("grpc.so_reuseport", 1)],
        xds=config["security"] == "xds",
    )
    server.add_secure_port(address, credentials(config["security"]))
    server.start()
    print(json.dumps({"address": address}), flush=True)
    sys.stdin.read()
    server.stop(None).wait()


main()
