// Walks through the Engine API with testcontainers for Node and with dockerode, on which it stands. The first thing
// that is not as it should be ends it. Usage: walk.mjs IMAGE, where DOCKER_HOST is the engine's address.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { GenericContainer, Network, Wait } from "testcontainers";

const image = process.argv[2];
const require = createRequire(import.meta.url);
const Docker = require("dockerode");
const engine = new Docker({ socketPath: process.env.DOCKER_HOST.replace("unix://", "") });
const labels = { walk: "node" };

async function pull() {
  assert.equal((await engine.ping()).toString(), "OK");
  assert.equal((await engine.version()).Os, "linux");
  assert.equal((await engine.info()).Containers, 0);
  const stream = await engine.pull(image);
  const progress = await new Promise((done, failed) =>
    engine.modem.followProgress(stream, (error, lines) => (error ? failed(error) : done(lines))));
  assert.ok(progress.at(-1).status.includes(image), JSON.stringify(progress.at(-1)));
}

async function life() {
  const events = await engine.getEvents({ filters: { label: ["walk=node"], type: ["container"] } });
  const seen = [];
  events.on("data", (chunk) => chunk.toString().trim().split("\n").forEach((line) => seen.push(JSON.parse(line).Action)));
  const said = { out: "", err: "" };
  const [output, errors] = [new PassThrough(), new PassThrough()];
  output.on("data", (chunk) => (said.out += chunk));
  errors.on("data", (chunk) => (said.err += chunk));
  const [result] = await engine.run(image, ["sh", "-c", "echo out; echo err >&2; exit 7"], [output, errors], { Tty: false, Labels: labels });
  assert.equal(result.StatusCode, 7);
  // The end may be told before the last of the output has come, here as in Docker.
  while (!said.out || !said.err) await sleep(10);
  assert.deepEqual(said, { out: "out\n", err: "err\n" });
  const [listed] = await engine.listContainers({ all: true, filters: { label: ["walk=node"] } });
  assert.equal(listed.State, "exited");
  const container = engine.getContainer(listed.Id);
  await container.rename({ name: "js-renamed" });
  assert.equal((await container.inspect()).Name, "/js-renamed");
  await container.remove();
  while (!seen.includes("destroy")) await sleep(10);
  events.destroy();
  assert.deepEqual(seen.slice(0, 4), ["create", "attach", "start", "die"]);
}

async function streams() {
  const container = await engine.createContainer({ Image: image, Cmd: ["cat"], OpenStdin: true, StdinOnce: true, Labels: labels });
  const attached = await container.attach({ stream: true, stdin: true, stdout: true, hijack: true });
  await container.start();
  attached.write("through and back\n");
  const stats = await container.stats({ stream: false });
  assert.equal(stats.pids_stats.current, 1);
  const exec = await container.exec({ Cmd: ["sh", "-c", "tty; exit 3"], AttachStdout: true, Tty: true });
  assert.equal(await text(await exec.start({ Tty: true, hijack: true })), "/dev/pts/0\r\n");
  assert.equal((await exec.inspect()).ExitCode, 3);
  assert.equal((await container.top()).Processes.length, 1);
  const archive = await container.getArchive({ path: "/bin/cat" });
  assert.ok((await text(archive)).startsWith("cat\0"));
  await container.update({ PidsLimit: 50 });
  const commit = await container.commit({ repo: "js-commit", tag: "1", changes: "ENV JS=1" });
  assert.ok((await engine.getImage(commit.Id).inspect()).Config.Env.includes("JS=1"));
  attached.end();
  const output = new PassThrough();
  container.modem.demuxStream(attached, output, output);
  attached.on("end", () => output.end());
  assert.equal(await text(output), "through and back\n");
  assert.equal((await container.wait()).StatusCode, 0);
  assert.equal((await container.logs({ stdout: true, tail: 1 })).subarray(8).toString(), "through and back\n");
  await container.remove();
  await engine.getImage("js-commit:1").remove();
}

async function testcontainers() {
  const network = await new Network().start();
  const web = await new GenericContainer(image)
    .withCommand(["sh", "-c", "cat /greeting > /data/index.html; echo serving; exec httpd -f -p 80 -h /data"])
    .withCopyContentToContainer([{ content: "page\n", target: "/greeting" }])
    .withTmpFs({ "/data": "rw" })
    .withNetwork(network)
    .withNetworkAliases("web")
    .withExposedPorts(80)
    .withLabels(labels)
    .withHealthCheck({ test: ["CMD-SHELL", "wget -qO- 127.0.0.1"], interval: 100, timeout: 5000, retries: 50, startPeriod: 1000 })
    .withWaitStrategy(Wait.forHealthCheck())
    .start();
  const page = await fetch(`http://127.0.0.1:${web.getMappedPort(80)}/`);
  assert.equal(await page.text(), "page\n");
  const client = await new GenericContainer(image).withNetwork(network).withCommand(["sleep", "1000"]).withLabels(labels).start();
  const { output, exitCode } = await client.exec(["wget", "-qO-", "web"]);
  assert.deepEqual([output, exitCode], ["page\n", 0]);
  const log = await engine.getContainer(web.getId()).logs({ stdout: true });
  assert.equal(log.subarray(8).toString(), "serving\n");
  await web.restart({ timeout: 0 });
  await client.stop({ timeout: 0 });
  await web.stop({ timeout: 0, removeVolumes: true });
  await network.stop();
}

async function leftovers() {
  const volume = await engine.createVolume({ Name: "js-data", Labels: labels });
  assert.equal((await engine.getVolume("js-data").inspect()).Labels.walk, "node");
  await engine.getVolume(volume.name ?? "js-data").remove();
  await assert.rejects(engine.getContainer("nobody").inspect(), { statusCode: 404 });
  await assert.rejects(engine.createContainer({ name: "bad/name", Image: image }), { statusCode: 400 });
  assert.deepEqual(await engine.listContainers({ all: true }), []);
  await engine.getImage(image).remove({ force: true });
}

// An await that nothing will end ends the program.
process.exitCode = 1;
await pull();
await life();
await streams();
await testcontainers();
await leftovers();
process.exit(0);
