//! A volume on inspection and in lists.

use crate::http::Failure;
use api::Filters;
use api::volume as answer;
use base::Timestamp;
use engine::volume::{View, Volume};

/// Returns the API's document.
pub fn volume(view: &View) -> answer::Volume {
    let record = &view.volume;
    // Seconds are all that dockerd keeps of it.
    let created = || Timestamp::from_nanos(Timestamp::from_nanos(record.created).as_secs() * 1_000_000_000);
    answer::Volume {
        created_at: view.created_at.clone().unwrap_or_else(|| match record.created {
            // Its plugin does not say.
            0 => String::new(),
            _ => created().to_string(),
        }),
        driver: record.driver.clone(),
        labels: Some(record.labels.clone()).filter(|labels| !labels.is_empty()),
        mountpoint: view.mountpoint.display().to_string(),
        name: record.name.clone(),
        options: Some(record.options.clone()).filter(|options| !options.is_empty()),
        scope: record.scope.clone(),
        status: view.status.clone(),
        usage_data: None,
    }
}

const KEYS: &[&str] = &["dangling", "driver", "label", "name"];

/// Returns the volumes that filters mean. `in_use` says whether a container refers to one.
///
/// # Errors
///
/// An invalid argument for filters that do not exist or make no sense.
pub fn select(
    views: Vec<View>,
    filters: &Filters,
    in_use: impl Fn(&Volume) -> bool,
) -> Result<Vec<View>, Failure> {
    let invalid = |error: api::filters::InvalidFilter| Failure::invalid(error.to_string());
    filters.validate(KEYS).map_err(invalid)?;
    let dangling = filters.boolean("dangling").map_err(invalid)?;
    let fits = |view: &View| {
        let record = &*view.volume;
        filters.exact("driver", &record.driver)
            && filters.substring("name", &record.name)
            && filters.labels("label", &record.labels)
            && dangling.is_none_or(|dangling| dangling != in_use(record))
    };
    Ok(views.into_iter().filter(fits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn a_volume_and_its_filters() {
        let record = |name: &str| {
            let labels = [("a".to_owned(), "b".to_owned())].into();
            let volume = Arc::new(Volume {
                driver: "local".to_owned(),
                scope: "local".to_owned(),
                name: name.to_owned(),
                created: 1_500_000_000,
                labels,
                options: Default::default(),
                made_for: None,
            });
            let mountpoint = Path::new("/v").join(name).join("_data");
            View { volume, mountpoint, created_at: None, status: BTreeMap::new() }
        };
        let answer = serde_json::to_string(&volume(&record("data"))).unwrap();
        assert_eq!(
            answer,
            r#"{"CreatedAt":"1970-01-01T00:00:01Z","Driver":"local","Labels":{"a":"b"},"Mountpoint":"/v/data/_data","Name":"data","Options":null,"Scope":"local"}"#
        );
        let names = |filters: &str| {
            let views = vec![record("data"), record("other")];
            let found = select(views, &Filters::parse(filters).unwrap(), |volume| volume.name == "data");
            let found = found.map_err(|failure| failure.message);
            found
                .map(|found| found.iter().map(|view| view.volume.name.as_str()).collect::<Vec<_>>().join(" "))
        };
        for (filters, expect) in [
            ("", "data other"),
            (r#"{"name":["at"]}"#, "data"),
            (r#"{"dangling":["true"]}"#, "other"),
            (r#"{"dangling":["0"]}"#, "data"),
            (r#"{"driver":["nfs"]}"#, ""),
            (r#"{"label":["a=c"]}"#, ""),
        ] {
            assert_eq!(names(filters).as_deref(), Ok(expect), "{filters}");
        }
        assert_eq!(names(r#"{"dangling":["x"]}"#).unwrap_err(), "invalid filter 'dangling=[x]'");
    }
}
