//! Manifests at a registry, for the `manifest` commands. Only Wharf has this: Docker's command line asks registries itself.

use super::image::{credentials, reference, verify};
use super::{Services, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use api::image::{PutManifest, RemoteDocument, RemoteManifest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::images::{self, Images, Put, view};
use http::Method;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/distribution/{name...}/manifests", |s, call| {
            Box::pin(get(s.engine.images.clone(), call))
        }),
        route(Method::POST, "/distribution/{name...}/manifests", |s, call| {
            Box::pin(put(s.engine.images.clone(), call))
        }),
    ]
}

async fn get(images: Images, call: Call) -> Answer {
    let reference = reference(call.name(), "")?.with_default_tag();
    let verify = verify(&call);
    let found = images.remote_document(&reference, &credentials(&call)?, verify).await?;
    let (index, manifests) = match found {
        images::RemoteDocument::Manifest(manifest) => (false, vec![*manifest]),
        images::RemoteDocument::Index(manifests) => (true, manifests),
    };
    let manifests = manifests.iter().map(|manifest| RemoteManifest {
        reference: manifest.reference.to_string(),
        descriptor: view::descriptor(&manifest.descriptor),
        raw: STANDARD.encode(&manifest.bytes),
    });
    Ok(body::ok(&RemoteDocument { index, manifests: manifests.collect() }))
}

async fn put(images: Images, mut call: Call) -> Answer {
    let wanted: PutManifest = call.json().await?;
    let bytes = STANDARD.decode(&wanted.raw).map_err(|error| Failure::invalid(error.to_string()))?;
    let from = Some(wanted.from).filter(|from| !from.is_empty());
    let put = Put {
        reference: reference(call.name(), "")?.with_default_tag(),
        media_type: wanted.media_type,
        bytes: bytes.into(),
        from: from.map(|from| reference(&from, "")).transpose()?,
    };
    let verify = verify(&call);
    let digest = images.put_remote(put, &credentials(&call)?, verify).await?;
    Ok(body::ok(&serde_json::json!({ "Digest": digest.to_string() })))
}
