"""Walks through the Engine API with Docker's SDK for Python and with testcontainers, which stands on it.

The first thing that is not as it should be ends it. Usage: walk.py IMAGE, where DOCKER_HOST is the engine's address.
"""

import io
import sys
import tarfile
import threading

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

IMAGE = sys.argv[1]
LABELS = {"walk": "python"}
engine = docker.from_env(timeout=60)


def equal(got, want, what):
    assert got == want, f"{what}: {got!r} instead of {want!r}"


def system_and_pull():
    assert engine.ping()
    negotiated = docker.from_env(version="auto").api._version
    assert tuple(map(int, negotiated.split("."))) >= (1, 44), negotiated
    equal(engine.version()["Os"], "linux", "the system")
    equal(engine.info()["Containers"], 0, "containers")
    image = engine.images.pull(IMAGE)
    assert IMAGE in image.tags, image.tags
    assert image.history()[0]["Size"] > 0


def life():
    told = engine.events(decode=True, filters={"label": "walk=python", "type": "container"})
    out = engine.containers.run(IMAGE, ["echo", "hello"], labels=LABELS, remove=True)
    equal(out, b"hello\n", "run")
    try:
        engine.containers.run(IMAGE, ["sh", "-c", "echo why >&2; exit 7"], labels=LABELS, name="py-fails")
        raise AssertionError("a failing container succeeded")
    except docker.errors.ContainerError as error:
        equal(error.exit_status, 7, "the exit code")
        equal(error.stderr, b"why\n", "what it said")
    actions = []
    while actions.count("die") < 2:
        actions.append(next(told)["Action"])
    told.close()
    equal(actions[:4], ["create", "start", "die", "destroy"], "the first events")
    container = engine.containers.get("py-fails")
    equal(container.status, "exited", "the state")
    container.rename("py-renamed")
    found = engine.containers.list(all=True, filters={"name": "py-renamed", "exited": 7})
    equal([one.id for one in found], [container.id], "listed")
    container.remove()


def streams():
    box = engine.containers.create(IMAGE, ["cat"], name="py-cat", labels=LABELS, stdin_open=True, mem_limit="64m")
    box.start()
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    socket._sock.sendall(b"through and back\n")
    frame = socket.read(8 + 17)
    equal((frame[0], frame[8:]), (1, b"through and back\n"), "what came back")
    socket.close()
    equal(box.stats(stream=False)["pids_stats"]["current"], 1, "processes")
    stream = box.stats(decode=True)
    equal([next(stream)["memory_stats"]["limit"] for _ in range(2)], [64 << 20] * 2, "the limit")
    stream.close()
    equal(len(box.top()["Processes"]), 1, "processes of top")
    code, (out, err) = box.exec_run(["sh", "-c", "echo a; echo b >&2; exit 3"], demux=True)
    equal((code, out, err), (3, b"a\n", b"b\n"), "exec")
    equal(box.exec_run("tty", tty=True).output, b"/dev/pts/0\r\n", "the exec's terminal")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("note")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    assert box.put_archive("/tmp", archive.getvalue())
    parts, stat = box.get_archive("/tmp/note")
    equal(stat["size"], 4, "the size")
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        equal(tar.extractfile("note").read(), b"text", "the text")
    assert {"Path": "/tmp/note", "Kind": 1} in box.diff()
    image = box.commit("py-commit", "1", changes=["ENV PY=1"])
    assert "PY=1" in image.attrs["Config"]["Env"]
    box.update(mem_limit="32m", memswap_limit="32m")
    box.pause()
    box.reload()
    equal(box.status, "paused", "the state")
    box.unpause()
    lines = box.logs(stream=True, follow=True)
    equal(next(lines), b"through and back\n", "the log")
    stopper = threading.Timer(0.2, lambda: box.kill())
    stopper.start()
    equal(list(lines), [], "the rest of the log")
    equal(box.wait()["StatusCode"], 137, "the exit code")
    assert sum(map(len, box.export())) > 1 << 20
    box.remove(v=True)
    engine.images.remove("py-commit:1")


def networks_and_volumes():
    pool = docker.types.IPAMPool(subnet="10.88.2.0/24", gateway="10.88.2.1")
    network = engine.networks.create("py-net", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels=LABELS)
    volume = engine.volumes.create("py-data", labels=LABELS)
    server = engine.containers.run(
        IMAGE, ["sh", "-c", "echo page > /data/index.html; httpd -f -p 80 -h /data"], name="py-web", labels=LABELS,
        detach=True, network="py-net", volumes={"py-data": {"bind": "/data", "mode": "rw"}},
        healthcheck={"test": ["CMD", "wget", "-qO-", "127.0.0.1"], "interval": 100_000_000})
    out = engine.containers.run(
        IMAGE, ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- py-web && break; sleep 0.2; done"],
        network="py-net", remove=True, labels=LABELS)
    equal(out, b"page\n", "the page")
    network.reload()
    equal([one.name for one in network.containers], ["py-web"], "the network's members")
    network.disconnect(server)
    network.connect(server, ipv4_address="10.88.2.77", aliases=["again"])
    server.reload()
    equal(server.attrs["NetworkSettings"]["Networks"]["py-net"]["IPAddress"], "10.88.2.77", "the address")
    server.stop(timeout=1)
    server.remove()
    network.remove()
    volume.remove()


def errors():
    for call, kind in [
        (lambda: engine.containers.get("nobody"), docker.errors.NotFound),
        (lambda: engine.images.pull("127.0.0.1:5000/none:1"), docker.errors.NotFound),
        (lambda: engine.containers.create("127.0.0.1:5000/none:1"), docker.errors.ImageNotFound),
        (lambda: engine.containers.create(IMAGE, name="bad/name"), docker.errors.APIError),
    ]:
        try:
            call()
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


def with_testcontainers():
    with Network() as network:
        web = DockerContainer(IMAGE, _wait_strategy=LogMessageWaitStrategy("serving"))
        web = web.with_command(["sh", "-c", "echo page > /index.html; echo serving; httpd -f -p 80 -h /"])
        with web.with_exposed_ports(80).with_network(network).with_network_aliases("web") as web:
            assert int(web.get_exposed_port(80)) > 1024
            code, _ = web.exec(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- web && exit; sleep 0.2; done; exit 1"])
            equal(code, 0, "the page by the alias")
            equal(web.get_logs()[0], b"serving\n", "the log")


system_and_pull()
life()
streams()
networks_and_volumes()
errors()
with_testcontainers()
equal(engine.containers.prune({"label": "walk=python"})["SpaceReclaimed"], 0, "left to prune")
equal(engine.containers.list(all=True), [], "containers left")
engine.images.remove(IMAGE, force=True)
