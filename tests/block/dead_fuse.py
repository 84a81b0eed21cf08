"""A loop device over a FUSE export that nobody serves any more and nobody ends, as a dead node leaves behind.

Whatever asks for the attributes of its file (LOOP_GET_STATUS64, `losetup -a`) waits in the kernel until close().
"""
import ctypes
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading

FORGET, GETATTR, INIT, LOOKUP, OPEN, READ, BATCH_FORGET = 2, 3, 26, 1, 14, 15, 42
HEADER = struct.Struct("<IIQQIIIHH")
SIZE = 1 << 20
NOTIFY_INVAL_INODE = 2
PIDFD_GETFD = 438
LOOP_GET_STATUS64 = 0x4C05
CONNECTIONS = "/sys/fs/fuse/connections"
libc = ctypes.CDLL(None, use_errno=True)


def abort(connection):
    if not os.path.isdir(f"{CONNECTIONS}/{connection}"):
        libc.mount(b"none", CONNECTIONS.encode(), b"fusectl", 0, None)
    if os.path.isdir(f"{CONNECTIONS}/{connection}"):
        with open(f"{CONNECTIONS}/{connection}/abort", "w", encoding="utf-8") as stream:
            stream.write("1")


def connection_of(folder):
    """The number of the FUSE connection mounted at or below the folder."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        for line in stream:
            fields = line.split()
            if (fields[4] + "/").startswith(folder + "/") and " - fuse " in line:
                return int(fields[2].partition(":")[2])
    return None


def descriptor_of(pid):
    """A copy of the /dev/fuse descriptor that another process holds."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/fuse":
            copy = libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), int(number), 0)
            if copy >= 0:
                return copy
    raise AssertionError(f"process {pid} holds no FUSE descriptor")


def forget_attributes(descriptor):
    """Makes the kernel ask for the attributes of `disk` when next somebody wants them."""
    os.write(descriptor, struct.pack("<IiQQqq", 40, NOTIFY_INVAL_INODE, 0, 2, -1, 0))


def status_hangs(device, seconds=1.5):
    """Whether LOOP_GET_STATUS64 is not answered. Who waits is killed, or left to the connection's end."""
    code = f"import fcntl,os; fcntl.ioctl(os.open('{device}', os.O_RDONLY), {LOOP_GET_STATUS64}, bytes(232))"
    asks = subprocess.Popen([sys.executable, "-c", code])
    try:
        asks.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        asks.kill()
        return True


def attributes(node):
    mode = 0o40700 if node == 1 else 0o100600
    return struct.pack("<6Q10I", node, 0 if node == 1 else SIZE, SIZE // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class DeadFuse:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="hf-dead-")
        self.descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.descriptor},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"somebody", self.folder.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.connection = connection_of(self.folder)
        self.device = None
        self._stop = False
        server = threading.Thread(target=self._serve)
        server.start()
        try:
            done = subprocess.run(["losetup", "--find", "--show", f"{self.folder}/disk"], capture_output=True, text=True,
                                  timeout=20, check=True)
            self.device = done.stdout.strip()
        finally:
            self._stop = True
            server.join()

    def _serve(self):
        while not self._stop:
            if not select.select([self.descriptor], [], [], 0.05)[0]:
                continue
            message = os.read(self.descriptor, SIZE + 8192)
            _, opcode, unique, node, *_ = HEADER.unpack_from(message)
            if opcode in (FORGET, BATCH_FORGET):
                continue
            body = self._answer(opcode, node, message[HEADER.size:])
            error = 0 if body is not None else -38
            os.write(self.descriptor, struct.pack("<IiQ", 16 + len(body or b""), error, unique) + (body or b""))

    @staticmethod
    def _answer(opcode, node, message):
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 32, 0, 0).ljust(64, b"\0")
        if opcode == LOOKUP:  # valid for no time at all
            return struct.pack("<QQQQII", 2, 1, 0, 0, 0, 0) + attributes(2)
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + attributes(node)
        if opcode == OPEN:
            return struct.pack("<QII", 2, 0, 0)
        if opcode == READ:
            return bytes(struct.unpack_from("<QQI", message)[2])
        return None

    def close(self):
        abort(self.connection)
        if self.device:
            subprocess.run(["losetup", "-d", self.device], check=False, timeout=20)
        libc.umount2(self.folder.encode(), 2)
        os.close(self.descriptor)
        shutil.rmtree(self.folder, ignore_errors=True)
