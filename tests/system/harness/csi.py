"""A client of the CSI socket, as kubelet, its sidecars and Nomad are: python3-grpcio, and messages made from our own .proto."""
import functools
import importlib
import os
import sys
import tempfile

from harness.base import ROOT, Skip, need_program, run

try:
    import grpc
except ImportError:
    grpc = None

SERVICES = ("Identity", "Controller", "Node")
MODES = {"writer": 1, "reader": 2, "many-readers": 3, "many-single-writer": 4, "many-writers": 5, "one-pod": 6, "many-pods": 7}


class Refused(AssertionError):
    """The call answered with a status that is not OK."""

    def __init__(self, call, error):
        super().__init__(f"{call}: {error.code().name}: {error.details()}")
        self.code = error.code().name
        self.details = error.details()
        self.trailers = {key: value for key, value in error.trailing_metadata() or ()}


@functools.cache
def messages():
    """The module with the messages of csi.v1, made by protoc."""
    if grpc is None:
        raise Skip("python3-grpcio is not installed")
    protoc = need_program("protoc", "protobuf-compiler")
    with tempfile.TemporaryDirectory() as folder:
        run([protoc, "-I", os.path.join(ROOT, "proto"), f"--python_out={folder}", "csi/v1/csi.proto"])
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("csi.v1.csi_pb2")
        finally:
            sys.path.remove(folder)


class Csi:
    """call("CreateVolume", name="x", …) → the answer; Refused with the code. Times out after 100 s, longer than the daemon's own limit."""

    def __init__(self, socket, pb2):
        self.pb2 = pb2
        self._methods = {method.name: (service, method) for service in SERVICES
                         for method in pb2.DESCRIPTOR.services_by_name[service].methods}
        options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def close(self):
        self._channel.close()

    def rpcs(self):
        return sorted(self._methods)

    def call(self, name, /, **fields):
        service, method = self._methods[name]
        request = getattr(self.pb2, method.input_type.name)(**fields)
        answer = getattr(self.pb2, method.output_type.name)
        ask = self._channel.unary_unary(f"/csi.v1.{service}/{name}", request_serializer=lambda message: message.SerializeToString(),
                                        response_deserializer=answer.FromString)
        try:
            return ask(request, timeout=100, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Refused(name, error) from error

    def capability(self, mode="writer", block=False, fs_type="", flags=()):
        pb2 = self.pb2
        capability = pb2.VolumeCapability(access_mode=pb2.VolumeCapability.AccessMode(mode=MODES[mode]))
        if block:
            capability.block.SetInParent()
        else:
            capability.mount.SetInParent()
            capability.mount.fs_type = fs_type
            capability.mount.mount_flags.extend(flags)
        return capability

    def size(self, required=0, limit=0):
        return self.pb2.CapacityRange(required_bytes=required, limit_bytes=limit)
