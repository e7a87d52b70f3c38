//! Where a log comes from: what entries carry besides their text (`labels`, `env`, `tag` and their kin).

use crate::{Attributes, Error};
use gotemplate::{Object, Template, Value, docker_functions};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A container, as far as its log tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The whole identifier, in hexadecimal digits.
    pub id: String,
    /// The name, without a slash.
    pub name: String,
    /// The image's identifier.
    pub image_id: String,
    /// The image as it was asked for.
    pub image: String,
    /// The command line.
    pub command: String,
    /// When it was created, in nanoseconds since the epoch.
    pub created: i64,
    /// The tag, filled in; the short identifier if none is asked for.
    pub tag: String,
    /// What each entry carries.
    pub attributes: Attributes,
}

impl From<Attributes> for Origin {
    fn from(attributes: Attributes) -> Self {
        Self { attributes, ..Self::default() }
    }
}

/// Digits of an identifier that people see.
const SHORT: usize = 12;

impl Origin {
    /// Fills in what the driver's `options` ask for: the tag, and the attributes from `labels` and the variables `env`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidOption`] for an expression or a template that is none.
    pub fn choose(
        mut self,
        options: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
        env: &[String],
    ) -> Result<Self, Error> {
        let option = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let variables: Vec<(&str, &str)> =
            env.iter().filter_map(|variable| variable.split_once('=')).collect();
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        for (list, expression, pairs) in
            [("labels", "labels-regex", &labels), ("env", "env-regex", &variables)]
        {
            let names: Vec<&str> = option(list).map(|list| list.split(',').collect()).unwrap_or_default();
            let expression = option(expression).map(regex).transpose()?;
            for (key, value) in pairs {
                if names.contains(key)
                    || expression.as_ref().is_some_and(|expression| expression.is_match(key))
                {
                    self.attributes.insert((*key).to_owned(), (*value).to_owned());
                }
            }
        }
        self.tag = match option("tag") {
            None => short(&self.id),
            Some(template) => {
                let tag = self.fill(template)?;
                self.attributes.insert("tag".to_owned(), tag.clone());
                tag
            }
        };
        Ok(self)
    }

    /// Fills a tag's template in (moby, *loggerutils.ParseLogTag*).
    fn fill(&self, template: &str) -> Result<String, Error> {
        let mut info = Object::new("*logger.Info");
        let fields = [
            ("ID", short(&self.id)),
            ("FullID", self.id.clone()),
            ("Name", self.name.clone()),
            ("ImageID", short(self.image_id.rsplit(':').next().unwrap_or_default())),
            ("ImageFullID", self.image_id.clone()),
            ("ImageName", self.image.clone()),
            ("Command", self.command.clone()),
            ("DaemonName", "docker".to_owned()),
        ];
        for (name, value) in fields {
            info.push(name, Value::from(value));
        }
        let wrong = |error: gotemplate::Error| Error::InvalidOption(error.to_string());
        let template = Template::parse("log-tag", template, docker_functions()).map_err(wrong)?;
        template.execute(&Value::Object(Arc::new(info))).map_err(wrong)
    }
}

fn short(id: &str) -> String {
    id.get(..SHORT).unwrap_or(id).to_owned()
}

fn regex(text: &str) -> Result<Regex, Error> {
    Regex::new(text).map_err(|error| Error::InvalidOption(format!("error parsing regexp: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_choose_what_entries_carry() {
        let check = |options: &[(&str, &str)], tag: &str, attributes: &[(&str, &str)]| {
            let origin = Origin {
                id: "0123456789abcdef".to_owned(),
                name: "web".to_owned(),
                image: "busybox".to_owned(),
                ..Origin::default()
            };
            let labels = map(&[("tier", "front"), ("team", "x"), ("other", "y")]);
            let env = ["PATH=/bin".to_owned(), "APP_MODE=test".to_owned(), "bare".to_owned()];
            let origin = origin.choose(&map(options), &labels, &env).unwrap();
            assert_eq!((origin.tag.as_str(), origin.attributes), (tag, map(attributes)), "{options:?}");
        };
        check(&[], "0123456789ab", &[]);
        check(&[("labels", "team,nosuch")], "0123456789ab", &[("team", "x")]);
        check(&[("labels-regex", "^t")], "0123456789ab", &[("team", "x"), ("tier", "front")]);
        check(
            &[("env", "PATH"), ("env-regex", "^APP_")],
            "0123456789ab",
            &[("APP_MODE", "test"), ("PATH", "/bin")],
        );
        check(&[("tag", "{{.Name}}/{{.ID}}")], "web/0123456789ab", &[("tag", "web/0123456789ab")]);
        let wrong = |key: &str, value: &str| {
            Origin::default().choose(&map(&[(key, value)]), &BTreeMap::new(), &[]).unwrap_err().to_string()
        };
        assert!(wrong("env-regex", "(").starts_with("error parsing regexp"));
        assert!(wrong("tag", "{{.Nosuch}}").contains("Nosuch"));
    }
}
