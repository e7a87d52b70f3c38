//! Against the registry everybody runs, as Debian packages it (`docker-registry`).

use bytes::Bytes;
use distribution::{Access, Client, Credentials, Settings};
use oci::{Descriptor, Digest, Manifest, Reference, media_type};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A running `docker-registry` with its own directory; both go when it is dropped.
struct Server {
    child: Child,
    directory: PathBuf,
    host: String,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir().join(format!("wharf-registry-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let host = format!("127.0.0.1:{port}");
        let configuration = directory.join("config.yml");
        let root = directory.join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            root.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, directory, host };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&server.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

#[tokio::test]
#[ignore = "program: docker-registry"]
async fn what_is_pushed_can_be_pulled() {
    let server = Server::start();
    let client = Client::new(Settings { certs_dirs: Vec::new(), ..Settings::default() });
    let reference = Reference::parse_normalized(&format!("{}/some/app:v1", server.host)).unwrap();
    let repository = client.repository(&reference, &Credentials::default(), Access::Push);
    let layer: Vec<u8> = (0..5_000_000_u32).flat_map(|n| n.to_le_bytes()).take(9_000_000).collect();
    let config = b"{}".to_vec();
    for bytes in [&layer, &config] {
        let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
        let content = bytes.clone();
        assert!(!repository.has_blob(&descriptor.digest).await.unwrap());
        let source = Arc::new(move |_| {
            Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn std::io::Read + Send>)
        });
        repository.upload(&descriptor, source, Arc::new(|_| ())).await.unwrap();
        assert!(repository.has_blob(&descriptor.digest).await.unwrap());
    }
    let layer_descriptor = Descriptor::of(media_type::OCI_LAYER, &layer);
    let mut manifest =
        Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), vec![layer_descriptor.clone()]);
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap());
    let put = repository.put_manifest("v1", media_type::OCI_MANIFEST, bytes.clone()).await.unwrap();

    let other = Reference::parse_normalized(&format!("{}/other:v1", server.host)).unwrap();
    let mounted = client.repository(&other, &Credentials::default(), Access::Push);
    assert!(mounted.mount(&layer_descriptor.digest, "some/app").await.unwrap());
    assert!(!mounted.mount(&Digest::sha256_of(b"nothing"), "some/app").await.unwrap());

    let pulled = client.repository(&reference, &Credentials::default(), Access::Pull);
    let fetched = pulled.resolve().await.unwrap();
    assert_eq!((fetched.descriptor.clone(), &fetched.bytes), (put, &bytes));
    assert_eq!(pulled.head().await.unwrap(), Some(fetched.descriptor));
    assert_eq!(pulled.tags().await.unwrap(), ["v1"]);
    for offset in [0, 1, 8_999_999, 9_000_000] {
        let mut blob = pulled.blob(&layer_descriptor, offset as u64);
        let mut content = Vec::new();
        while let Some(chunk) = blob.chunk().await.unwrap() {
            content.extend_from_slice(&chunk);
        }
        assert!(content == layer[offset..], "{offset}");
    }
    let missing = Reference::parse_normalized(&format!("{}/some/app:v2", server.host)).unwrap();
    let error =
        client.repository(&missing, &Credentials::default(), Access::Pull).resolve().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {missing} not found: manifest unknown: manifest unknown")
    );
}
