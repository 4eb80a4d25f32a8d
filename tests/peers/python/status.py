"""The client status discovery service, as gRPC C-core's own tooling serves and reads it."""

import hashlib
from concurrent import futures

import grpc
import grpc.experimental
import grpc_csds
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

_served = []


def serve():
    """Serves what this process has from its control plane: where."""
    if not _served:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        grpc_csds.add_csds_servicer(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        _served.append((server, "127.0.0.1:%d" % port))
    return _served[0][1]


def fetch(address):
    """What the service at the address tells."""
    credentials = grpc.experimental.insecure_channel_credentials()
    with grpc.secure_channel(address, credentials) as channel:
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        request = csds_pb2.ClientStatusRequest()
        fetched = stub.FetchClientStatus(request, timeout=20)
        (streamed,) = stub.StreamClientStatus(iter([request]), timeout=20)
    return {"fetched": _plain(fetched), "streamed": _plain(streamed)}


def _plain(response):
    return [
        {
            "node": config.node.id,
            "resources": [_resource(told) for told in config.generic_xds_configs],
        }
        for config in response.config
    ]


def _resource(told):
    failed = told.HasField("error_state")
    contents = told.xds_config.SerializeToString(deterministic=True)
    return {
        "type": told.type_url,
        "name": told.name,
        "state": config_dump_shared_pb2.ClientResourceStatus.Name(told.client_status),
        "version": told.version_info,
        "updated": told.HasField("last_updated"),
        "contents": hashlib.sha256(contents).hexdigest() if contents else None,
        "refused": told.error_state.version_info if failed else None,
        "details": told.error_state.details if failed else None,
    }
