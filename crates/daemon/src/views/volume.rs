//! A volume on inspection and in lists.

use crate::http::Failure;
use api::Filters;
use api::volume as answer;
use base::Timestamp;
use engine::volume::Volume;
use std::path::Path;
use std::sync::Arc;

/// Returns the API's document.
pub fn volume(record: &Volume, data: &Path) -> answer::Volume {
    answer::Volume {
        // Seconds are all that dockerd keeps of it.
        created_at: Timestamp::from_nanos(Timestamp::from_nanos(record.created).as_secs() * 1_000_000_000)
            .to_string(),
        driver: record.driver.clone(),
        labels: Some(record.labels.clone()).filter(|labels| !labels.is_empty()),
        mountpoint: data.display().to_string(),
        name: record.name.clone(),
        options: Some(record.options.clone()).filter(|options| !options.is_empty()),
        scope: record.scope.clone(),
        ..Default::default()
    }
}

const KEYS: &[&str] = &["dangling", "driver", "label", "name"];

/// Returns the volumes that filters mean. `in_use` says whether a container refers to one.
///
/// # Errors
///
/// An invalid argument for filters that do not exist or make no sense.
pub fn select(
    records: Vec<Arc<Volume>>,
    filters: &Filters,
    in_use: impl Fn(&Volume) -> bool,
) -> Result<Vec<Arc<Volume>>, Failure> {
    let invalid = |error: api::filters::InvalidFilter| Failure::invalid(error.to_string());
    filters.validate(KEYS).map_err(invalid)?;
    let dangling = filters.boolean("dangling").map_err(invalid)?;
    let fits = |record: &Arc<Volume>| {
        filters.exact("driver", &record.driver)
            && filters.substring("name", &record.name)
            && filters.labels("label", &record.labels)
            && dangling.is_none_or(|dangling| dangling != in_use(record))
    };
    Ok(records.into_iter().filter(fits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_and_its_filters() {
        let record = |name: &str| {
            let labels = [("a".to_owned(), "b".to_owned())].into();
            Arc::new(Volume {
                driver: "local".to_owned(),
                scope: "local".to_owned(),
                name: name.to_owned(),
                created: 1_500_000_000,
                labels,
                options: Default::default(),
                made_for: None,
            })
        };
        let answer = serde_json::to_string(&volume(&record("data"), Path::new("/v/data/_data"))).unwrap();
        assert_eq!(
            answer,
            r#"{"CreatedAt":"1970-01-01T00:00:01Z","Driver":"local","Labels":{"a":"b"},"Mountpoint":"/v/data/_data","Name":"data","Options":null,"Scope":"local"}"#
        );
        let names = |filters: &str| {
            let records = vec![record("data"), record("other")];
            let found = select(records, &Filters::parse(filters).unwrap(), |volume| volume.name == "data");
            let found = found.map_err(|failure| failure.message);
            found.map(|found| found.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join(" "))
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
