//! What a container uses, as `stats` shows it.

use api::stats::{Blkio, BlkioEntry, Cpu, CpuUsage, Memory, Network, Pids, Stats, Throttling};
use base::Timestamp;
use engine::container::{Container, Sample};

/// Returns the API's document. `before` is the sample that rates are computed against.
pub fn stats(container: &Container, sample: &Sample, before: Option<&Sample>, now: Timestamp) -> Stats {
    let zero = Timestamp::ZERO;
    Stats {
        name: format!("/{}", container.name),
        id: container.id.to_string(),
        read: if sample.time.is_some() { sample.time.unwrap_or(now) } else { zero }.to_string(),
        preread: before.and_then(|before| before.time).unwrap_or(zero).to_string(),
        pids_stats: Pids {
            current: sample.cgroup.pids.current,
            limit: sample.cgroup.pids.limit.unwrap_or(if sample.time.is_some() { u64::MAX } else { 0 }),
        },
        blkio_stats: blkio(sample),
        cpu_stats: cpu(sample),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        memory_stats: memory(sample),
        networks: sample
            .networks
            .iter()
            .map(|(name, counters)| {
                (
                    name.clone(),
                    Network {
                        rx_bytes: counters.rx_bytes,
                        rx_packets: counters.rx_packets,
                        rx_errors: counters.rx_errors,
                        rx_dropped: counters.rx_dropped,
                        tx_bytes: counters.tx_bytes,
                        tx_packets: counters.tx_packets,
                        tx_errors: counters.tx_errors,
                        tx_dropped: counters.tx_dropped,
                    },
                )
            })
            .collect(),
        ..Default::default()
    }
}

fn cpu(sample: &Sample) -> Cpu {
    let cpu = &sample.cgroup.cpu;
    Cpu {
        cpu_usage: CpuUsage {
            total_usage: cpu.total_ns,
            percpu_usage: cpu.percpu_ns.clone(),
            usage_in_kernelmode: cpu.system_ns,
            usage_in_usermode: cpu.user_ns,
        },
        system_cpu_usage: sample.system_ns,
        online_cpus: sample.processors,
        throttling_data: Throttling {
            periods: cpu.throttling.periods,
            throttled_periods: cpu.throttling.throttled_periods,
            throttled_time: cpu.throttling.throttled_ns,
        },
    }
}

fn memory(sample: &Sample) -> Memory {
    let memory = &sample.cgroup.memory;
    if sample.time.is_none() {
        return Memory::default();
    }
    Memory {
        usage: memory.usage,
        // Version 2 of control groups tells no maximum.
        max_usage: if sample.unified { 0 } else { memory.max_usage },
        stats: memory.stats.clone(),
        failcnt: memory.failcnt,
        // No limit means the host's memory.
        limit: memory.limit.min(sample.host_memory),
    }
}

fn blkio(sample: &Sample) -> Blkio {
    if sample.time.is_none() {
        return Blkio::default();
    }
    let blkio = &sample.cgroup.blkio;
    let entry = |(major, minor, op, value): (u64, u64, &String, u64)| BlkioEntry {
        major,
        minor,
        op: op.to_lowercase(),
        value,
    };
    let bytes = blkio.service_bytes.iter().map(|e| entry((e.major, e.minor, &e.operation, e.value)));
    let operations = blkio.serviced.iter().map(|e| entry((e.major, e.minor, &e.operation, e.value)));
    Blkio {
        io_service_bytes_recursive: Some(bytes.collect()),
        io_serviced_recursive: Some(operations.collect()),
        ..Default::default()
    }
}
