// Walks through the Engine API with Docker's own client for Go: one container's life, its streams, an image from a
// registry, a network and a volume. The first thing that is not as it should be ends it. Usage: client IMAGE, where
// DOCKER_HOST is the engine's address.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	"github.com/docker/docker/pkg/stdcopy"
)

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func equal[T comparable](got, want T, what string) {
	if got != want {
		fmt.Fprintf(os.Stderr, "%s: %v instead of %v\n", what, got, want)
		os.Exit(1)
	}
}

func value[T any](what string) func(T, error) T {
	return func(found T, err error) T {
		must(err, what)
		return found
	}
}

type walk struct {
	ctx    context.Context
	engine *client.Client
	image  string
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	engine := value[*client.Client]("client")(client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()))
	w := walk{ctx, engine, os.Args[1]}
	w.system()
	w.pull()
	told, failed := engine.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "walk=go"))})
	w.life()
	w.streams()
	w.networks()
	w.volumes()
	w.events(told, failed)
	w.errors()
	w.remove()
}

func (w walk) system() {
	ping := value[types.Ping]("ping")(w.engine.Ping(w.ctx))
	version := value[types.Version]("version")(w.engine.ServerVersion(w.ctx))
	equal(ping.APIVersion, version.APIVersion, "the version of a ping")
	equal(w.engine.ClientVersion(), version.APIVersion, "the negotiated version")
	info, err := w.engine.Info(w.ctx)
	must(err, "info")
	equal(info.OSType, "linux", "the system")
}

func (w walk) pull() {
	stream := value[io.ReadCloser]("pull")(w.engine.ImagePull(w.ctx, w.image, image.PullOptions{}))
	said := value[[]byte]("pull")(io.ReadAll(stream))
	for _, line := range bytes.Split(bytes.TrimSpace(said), []byte("\n")) {
		var message map[string]any
		must(json.Unmarshal(line, &message), "a line of the pull")
		if message["error"] != nil {
			must(fmt.Errorf("%v", message["error"]), "pull")
		}
	}
	found, err := w.engine.ImageInspect(w.ctx, w.image)
	must(err, "inspect of the image")
	equal(found.RepoTags[0], w.image, "the image's name")
}

func (w walk) create(name string, config container.Config, host *container.HostConfig) string {
	config.Image = w.image
	config.Labels = map[string]string{"walk": "go"}
	made, err := w.engine.ContainerCreate(w.ctx, &config, host, nil, nil, name)
	must(err, "create "+name)
	return made.ID
}

func (w walk) finish(id string) int64 {
	ended, failed := w.engine.ContainerWait(w.ctx, id, container.WaitConditionNotRunning)
	select {
	case end := <-ended:
		return end.StatusCode
	case err := <-failed:
		must(err, "wait")
	}
	return -1
}

func (w walk) life() {
	id := w.create("go-life", container.Config{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, nil)
	must(w.engine.ContainerStart(w.ctx, id, container.StartOptions{}), "start")
	equal(w.finish(id), 7, "the exit code")
	logs := value[io.ReadCloser]("logs")(w.engine.ContainerLogs(w.ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true}))
	var stdout, stderr bytes.Buffer
	value[int64]("logs")(stdcopy.StdCopy(&stdout, &stderr, logs))
	equal(stdout.String(), "out\n", "standard output")
	equal(stderr.String(), "err\n", "standard error")
	found, err := w.engine.ContainerInspect(w.ctx, id)
	must(err, "inspect")
	equal(string(found.State.Status), "exited", "the state")
	must(w.engine.ContainerRename(w.ctx, id, "go-renamed"), "rename")
	listed := value[[]container.Summary]("list")(w.engine.ContainerList(w.ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("name", "go-renamed"), filters.Arg("status", "exited")),
	}))
	equal(len(listed), 1, "listed")
	equal(listed[0].ID, id, "the listed one")
	must(w.engine.ContainerRemove(w.ctx, id, container.RemoveOptions{}), "remove")
}

func (w walk) streams() {
	id := w.create("go-cat", container.Config{
		Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true,
	}, nil)
	attached, err := w.engine.ContainerAttach(w.ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true})
	must(err, "attach")
	must(w.engine.ContainerStart(w.ctx, id, container.StartOptions{}), "start")
	value[int]("write")(attached.Conn.Write([]byte("through and back\n")))

	stats := value[container.StatsResponseReader]("stats")(w.engine.ContainerStatsOneShot(w.ctx, id))
	var numbers container.StatsResponse
	must(json.NewDecoder(stats.Body).Decode(&numbers), "stats")
	equal(numbers.ID, id, "the statistics' container")
	equal(numbers.PidsStats.Current, 1, "processes")

	w.exec(id)
	w.copy(id)
	top, err := w.engine.ContainerTop(w.ctx, id, nil)
	must(err, "top")
	equal(len(top.Processes), 1, "processes of top")
	must(w.engine.ContainerPause(w.ctx, id), "pause")
	must(w.engine.ContainerUnpause(w.ctx, id), "unpause")
	_, err = w.engine.ContainerUpdate(w.ctx, id, container.UpdateConfig{Resources: container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}})
	must(err, "update")

	must(attached.CloseWrite(), "close")
	var stdout, stderr bytes.Buffer
	value[int64]("attach")(stdcopy.StdCopy(&stdout, &stderr, attached.Reader))
	equal(stdout.String(), "through and back\n", "what came back")
	equal(w.finish(id), 0, "the exit code")
}

func (w walk) exec(id string) {
	made, err := w.engine.ContainerExecCreate(w.ctx, id, container.ExecOptions{
		Cmd: []string{"sh", "-c", "tty; stty size; exit 3"}, AttachStdin: true, AttachStdout: true, Tty: true,
		ConsoleSize: &[2]uint{33, 77},
	})
	must(err, "exec")
	attached, err := w.engine.ContainerExecAttach(w.ctx, made.ID, container.ExecAttachOptions{Tty: true, ConsoleSize: &[2]uint{33, 77}})
	must(err, "attach of the exec")
	said := string(value[[]byte]("exec")(io.ReadAll(attached.Reader)))
	equal(said, "/dev/pts/0\r\n33 77\r\n", "what the terminal said")
	ended, err := w.engine.ContainerExecInspect(w.ctx, made.ID)
	must(err, "inspect of the exec")
	equal(ended.ExitCode, 3, "the exec's code")
}

func (w walk) copy(id string) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	must(writer.WriteHeader(&tar.Header{Name: "note", Mode: 0o600, Size: 4}), "tar")
	value[int]("tar")(writer.Write([]byte("text")))
	must(writer.Close(), "tar")
	must(w.engine.CopyToContainer(w.ctx, id, "/tmp", &archive, container.CopyToContainerOptions{}), "copy in")
	reader, stat, err := w.engine.CopyFromContainer(w.ctx, id, "/tmp/note")
	must(err, "copy out")
	equal(stat.Size, 4, "the size")
	entries := tar.NewReader(reader)
	_, err = entries.Next()
	must(err, "the entry")
	equal(string(value[[]byte]("copy")(io.ReadAll(entries))), "text", "the text")
	changes := value[[]container.FilesystemChange]("diff")(w.engine.ContainerDiff(w.ctx, id))
	equal(changes[len(changes)-1].Path, "/tmp/note", "the change")
	commit, err := w.engine.ContainerCommit(w.ctx, id, container.CommitOptions{Reference: "go-commit:1", Changes: []string{"ENV GO=1"}})
	must(err, "commit")
	found, err := w.engine.ImageInspect(w.ctx, commit.ID)
	must(err, "inspect of the commit")
	equal(found.Config.Env[len(found.Config.Env)-1], "GO=1", "its variable")
}

func (w walk) networks() {
	made, err := w.engine.NetworkCreate(w.ctx, "go-net", network.CreateOptions{
		Driver: "bridge", Labels: map[string]string{"walk": "go"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.88.1.0/24", Gateway: "10.88.1.1"}}},
	})
	must(err, "network")
	id := w.create("go-member", container.Config{Cmd: []string{"sleep", "1000"}}, nil)
	must(w.engine.NetworkConnect(w.ctx, made.ID, id, &network.EndpointSettings{
		IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.88.1.9"}, Aliases: []string{"nine"},
	}), "connect")
	must(w.engine.ContainerStart(w.ctx, id, container.StartOptions{}), "start")
	found, err := w.engine.NetworkInspect(w.ctx, "go-net", network.InspectOptions{})
	must(err, "inspect of the network")
	equal(found.Containers[id].IPv4Address, "10.88.1.9/24", "the address")
	must(w.engine.NetworkDisconnect(w.ctx, made.ID, id, false), "disconnect")
	noTime := 0
	must(w.engine.ContainerStop(w.ctx, id, container.StopOptions{Timeout: &noTime}), "stop")
	must(w.engine.NetworkRemove(w.ctx, "go-net"), "remove the network")
}

func (w walk) volumes() {
	made, err := w.engine.VolumeCreate(w.ctx, volume.CreateOptions{Name: "go-data", Labels: map[string]string{"walk": "go"}})
	must(err, "volume")
	equal(made.Driver, "local", "the driver")
	run := func(name, script string) {
		host := &container.HostConfig{Binds: []string{"go-data:/data"}, AutoRemove: true}
		id := w.create(name, container.Config{Cmd: []string{"sh", "-c", script}}, host)
		ended, failed := w.engine.ContainerWait(w.ctx, id, container.WaitConditionRemoved)
		must(w.engine.ContainerStart(w.ctx, id, container.StartOptions{}), "start")
		select {
		case end := <-ended:
			equal(end.StatusCode, 0, script)
		case err := <-failed:
			must(err, "wait")
		}
	}
	run("go-writes", "echo kept > /data/file")
	run("go-reads", "grep -q kept /data/file")
	must(w.engine.VolumeRemove(w.ctx, "go-data", false), "remove the volume")
}

func (w walk) events(told <-chan events.Message, failed <-chan error) {
	var actions []string
	for len(actions) == 0 || actions[len(actions)-1] != "volumes" {
		select {
		case event := <-told:
			if event.Type == events.ContainerEventType {
				actions = append(actions, string(event.Action))
			}
			if event.Action == "destroy" && event.Actor.Attributes["name"] == "go-reads" {
				actions = append(actions, "volumes")
			}
		case err := <-failed:
			must(err, "events")
		}
	}
	begin := strings.Join(actions[:5], " ")
	equal(begin, "create start die rename destroy", "the first events")
}

func (w walk) errors() {
	_, err := w.engine.ContainerInspect(w.ctx, "nobody")
	equal(errdefs.IsNotFound(err), true, "a container that is not there")
	_, err = w.engine.ContainerCreate(w.ctx, &container.Config{Image: w.image}, nil, nil, nil, "go-cat")
	equal(errdefs.IsConflict(err), true, "a name that is taken")
	_, err = w.engine.ContainerCreate(w.ctx, &container.Config{Image: w.image}, nil, nil, nil, "bad/name")
	equal(errdefs.IsInvalidParameter(err), true, "a name that is none")
}

func (w walk) remove() {
	report, err := w.engine.ContainersPrune(w.ctx, filters.NewArgs(filters.Arg("label", "walk=go")))
	must(err, "prune")
	equal(len(report.ContainersDeleted), 2, "pruned")
	for _, name := range []string{"go-commit:1", w.image} {
		value[[]image.DeleteResponse]("remove " + name)(w.engine.ImageRemove(w.ctx, name, image.RemoveOptions{Force: true}))
	}
	usage, err := w.engine.DiskUsage(w.ctx, types.DiskUsageOptions{})
	must(err, "disk usage")
	equal(len(usage.Containers), 0, "containers left")
}
