//! Numbers for Prometheus, in its text format; the names are the well-known registry's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The upper ends of the histogram's buckets in milliseconds.
const BUCKETS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    rows: Mutex<BTreeMap<(&'static str, String), Row>>,
    codes: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    in_flight: AtomicU64,
    /// Of a pull-through cache: requests, and those answered from the cache.
    pub(crate) proxied: [AtomicU64; 4],
}

#[derive(Debug, Default)]
struct Row {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// A request has begun.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is answered.
    pub(crate) fn end(&self, handler: &'static str, method: &str, status: u16, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let method = method.to_lowercase();
        {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let row = rows.entry((handler, method.clone())).or_default();
            row.count += 1;
            row.sum += took;
            for (bucket, end) in row.buckets.iter_mut().zip(BUCKETS) {
                if took <= Duration::from_millis(end) {
                    *bucket += 1;
                }
            }
        }
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        *codes.entry((handler, method, status)).or_default() += 1;
    }

    /// Counts a request to a pull-through cache.
    pub(crate) fn proxied(&self, manifest: bool, hit: bool) {
        let [blobs, blob_hits, manifests, manifest_hits] = &self.proxied;
        let (requests, hits) = if manifest { (manifests, manifest_hits) } else { (blobs, blob_hits) };
        requests.fetch_add(1, Ordering::Relaxed);
        if hit {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Prints everything.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        self.write(&mut text).ok();
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# HELP registry_http_in_flight_requests The in-flight HTTP requests.")?;
        writeln!(out, "# TYPE registry_http_in_flight_requests gauge")?;
        writeln!(out, "registry_http_in_flight_requests {}", self.in_flight.load(Ordering::Relaxed))?;
        writeln!(out, "# HELP registry_http_requests_total Total number of HTTP requests made.")?;
        writeln!(out, "# TYPE registry_http_requests_total counter")?;
        for ((handler, method, code), count) in
            self.codes.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            writeln!(
                out,
                "registry_http_requests_total{{code=\"{code}\",handler=\"{handler}\",method=\"{method}\"}} {count}"
            )?;
        }
        writeln!(
            out,
            "# HELP registry_http_request_duration_seconds The HTTP request latencies in seconds."
        )?;
        writeln!(out, "# TYPE registry_http_request_duration_seconds histogram")?;
        for ((handler, method), row) in self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = format!("handler=\"{handler}\",method=\"{method}\"");
            let name = "registry_http_request_duration_seconds";
            for (count, end) in row.buckets.iter().zip(BUCKETS) {
                let end = Duration::from_millis(end).as_secs_f64();
                writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {count}")?;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", row.count)?;
            writeln!(out, "{name}_sum{{{labels}}} {}", row.sum.as_secs_f64())?;
            writeln!(out, "{name}_count{{{labels}}} {}", row.count)?;
        }
        let [blobs, blob_hits, manifests, manifest_hits] = &self.proxied;
        for (name, help, values) in [
            ("registry_proxy_requests_total", "The number of proxy request received", [blobs, manifests]),
            ("registry_proxy_hits_total", "The number of proxy cache hits", [blob_hits, manifest_hits]),
        ] {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")?;
            for (kind, value) in ["blob", "manifest"].iter().zip(values) {
                writeln!(out, "{name}{{type=\"{kind}\"}} {}", value.load(Ordering::Relaxed))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted() {
        let metrics = Metrics::default();
        metrics.begin();
        metrics.begin();
        metrics.end("blob", "GET", 200, Duration::from_millis(7));
        let text = metrics.print();
        for line in [
            "registry_http_in_flight_requests 1",
            "registry_http_requests_total{code=\"200\",handler=\"blob\",method=\"get\"} 1",
            "registry_http_request_duration_seconds_bucket{handler=\"blob\",method=\"get\",le=\"0.005\"} 0",
            "registry_http_request_duration_seconds_bucket{handler=\"blob\",method=\"get\",le=\"0.01\"} 1",
            "registry_http_request_duration_seconds_count{handler=\"blob\",method=\"get\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
