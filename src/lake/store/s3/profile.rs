//! One profile of the AWS command line's files.
//!
//! Owns: which files and which profile (`AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`, `AWS_PROFILE`), and a refusal of
//! what stands there and is not a key: single sign-on, roles to assume, programs to run.
//! Does not own: the format's syntax (`configparser`), credentials of machines (`object_store`).

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use configparser::ini::{Ini, IniDefault};

/// What one profile says, both files taken together; the credentials file goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
    pub region: Option<String>,
    pub endpoint_url: Option<String>,
}

/// Ways to a key that need more than reading it.
const ELSEWHERE: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "role_arn",
    "credential_process",
    "credential_source",
    "web_identity_token_file",
];

/// The profile that is asked for. `None` where neither file is there and no profile was named.
pub(super) fn read() -> anyhow::Result<Option<Profile>> {
    let named = env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    let file = |variable: &str, name: &str| -> Option<PathBuf> {
        let given = env::var_os(variable).map(PathBuf::from);
        given.or_else(|| Some(env::home_dir()?.join(".aws").join(name)))
    };
    read_files(
        file("AWS_SHARED_CREDENTIALS_FILE", "credentials").as_deref(),
        file("AWS_CONFIG_FILE", "config").as_deref(),
        named.as_deref(),
    )
}

fn read_files(
    credentials: Option<&Path>,
    config: Option<&Path>,
    named: Option<&str>,
) -> anyhow::Result<Option<Profile>> {
    let name = named.unwrap_or("default");
    // The config file calls its sections `[profile x]`, but for the default one.
    let in_config = if name == "default" {
        name.to_owned()
    } else {
        format!("profile {name}")
    };
    let files = [(credentials, name), (config, in_config.as_str())];
    let mut found = false;
    let mut profile = Profile::default();
    let mut elsewhere = None;
    for (file, section) in files {
        let Some(file) = file else { continue };
        let ini = load(file)?;
        let Some(section) = ini.as_ref().and_then(|ini| ini.get_map_ref().get(section)) else {
            continue;
        };
        found = true;
        let value = |key: &str| section.get(key).cloned().flatten().filter(|value| !value.is_empty());
        elsewhere = elsewhere.or_else(|| {
            ELSEWHERE
                .into_iter()
                .find(|key| value(key).is_some())
                .map(|key| (key, file))
        });
        for (slot, key) in [
            (&mut profile.access_key_id, "aws_access_key_id"),
            (&mut profile.secret_access_key, "aws_secret_access_key"),
            (&mut profile.session_token, "aws_session_token"),
            (&mut profile.region, "region"),
            (&mut profile.endpoint_url, "endpoint_url"),
        ] {
            *slot = slot.take().or_else(|| value(key));
        }
    }
    if let (None, Some((key, file))) = (&profile.access_key_id, elsewhere) {
        bail!(
            "profile {name} in {} says {key}, which affluent does not follow: put the keys in the environment with \
             `eval \"$(aws configure export-credentials --profile {name} --format env)\"`, or under lake.storage",
            file.display()
        );
    }
    match (found, named) {
        (true, _) => Ok(Some(profile)),
        (false, None) => Ok(None),
        (false, Some(name)) => bail!("AWS_PROFILE names {name}, and no file in ~/.aws has it"),
    }
}

fn load(file: &Path) -> anyhow::Result<Option<Ini>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    let mut syntax = IniDefault::default();
    syntax.case_sensitive = true;
    syntax.comment_symbols = vec!['#', ';'];
    syntax.delimiters = vec!['='];
    let mut ini = Ini::new_from_defaults(syntax);
    match ini.read(text) {
        Ok(_) => Ok(Some(ini)),
        // Its words may hold the line, and the line a key.
        Err(_) => bail!("{} is no file of profiles that can be read", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(credentials: &str, config: &str, named: Option<&str>) -> anyhow::Result<Option<Profile>> {
        let directory = tempfile::tempdir().expect("directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        read_files(
            Some(&file("credentials", credentials)),
            Some(&file("config", config)),
            named,
        )
    }

    #[test]
    fn both_files_make_one_profile() {
        let credentials =
            "[default]\naws_access_key_id = A\naws_secret_access_key = s/+=\n\n[other]\naws_access_key_id = B\n";
        let config = "[default]\nregion = eu-west-3\naws_access_key_id = not this one\n[profile other]\nregion = x\nendpoint_url = http://h:1\n";
        let default = read(credentials, config, None).expect("reads").expect("is there");
        assert_eq!(default.access_key_id.as_deref(), Some("A"));
        assert_eq!(default.secret_access_key.as_deref(), Some("s/+="));
        assert_eq!(default.region.as_deref(), Some("eu-west-3"));
        let other = read(credentials, config, Some("other"))
            .expect("reads")
            .expect("is there");
        assert_eq!(other.access_key_id.as_deref(), Some("B"));
        assert_eq!(other.endpoint_url.as_deref(), Some("http://h:1"));
    }

    #[test]
    fn without_files_there_is_no_profile_unless_one_was_asked_for() {
        let nowhere = Some(Path::new("/nonexistent/credentials"));
        assert_eq!(read_files(nowhere, None, None).expect("reads"), None);
        let error = read_files(nowhere, None, Some("other")).expect_err("asked for");
        assert!(error.to_string().contains("other"), "{error}");
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_the_way_out() {
        let error = read(
            "",
            "[profile work]\nsso_session = x\nregion = eu-west-3\n",
            Some("work"),
        )
        .expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains("sso_session") && text.contains("export-credentials"),
            "{text}"
        );
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let error = read("[default\naws_secret_access_key hunter2", "", None).expect_err("broken");
        let text = format!("{error:#}");
        assert!(text.contains("credentials") && !text.contains("hunter2"), "{text}");
    }
}
