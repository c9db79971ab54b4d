//! Finds the control plane and the token to speak to it with.
//!
//! The admin token of the state folder goes to the control plane of that state folder and to no other: a `--server` from
//! elsewhere needs a token of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use guardian_client::Client;

use super::Global;
use crate::output::Failure;

/// Written by `guardian up` into the state folder.
const ADDRESS_FILE: &str = "api.addr";
/// Written by `guardian up` into the state folder.
const TOKEN_FILE: &str = "admin.token";
/// The environment variable with the token itself.
pub(super) const TOKEN_VARIABLE: &str = "GUARDIAN_TOKEN";

impl Global {
    /// The state folder.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| self.config.with_file_name(".guardian"))
    }

    /// A client of the control plane that the flags, the environment or the state folder name.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.client_with_token(None)?.0)
    }

    /// The same with the token; `server` outranks everything else that names one.
    pub(crate) fn client_with_token(&self, server: Option<&str>) -> anyhow::Result<(Client, String)> {
        let state = self.state_folder();
        let local = fs::read_to_string(state.join(ADDRESS_FILE)).ok().map(|address| address.trim().to_owned());
        let named = server.map(str::to_owned).or_else(|| self.server.clone());
        let server = named.or_else(|| local.clone()).ok_or_else(|| {
            Failure::new(format!("no control plane is named, and `{}` has none", state.display()))
                .advise("start one with `guardian up`, or name one with --server and --token-file")
        })?;
        let is_local = local.as_deref() == Some(server.trim_start_matches("http://").trim_end_matches('/'));
        let token = self.token(is_local.then(|| state.join(TOKEN_FILE)).as_deref())?;
        Ok((Client::new(&server, &token)?, token))
    }

    fn token(&self, admin_token: Option<&Path>) -> anyhow::Result<String> {
        let variable = || std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        if let Some(file) = &self.token_file {
            return read_token(file);
        }
        if let Some(token) = variable() {
            return Ok(token);
        }
        match admin_token {
            Some(file) => read_token(file),
            None => Err(Failure::new("there is no token for this control plane")
                .advise(format!("give one with --token-file or in the environment variable {TOKEN_VARIABLE}"))
                .into()),
        }
    }
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let token = fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read the token file `{}`: {error}", file.display())))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(Failure::new(format!("the token file `{}` is empty", file.display())).into());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn global(arguments: &[&str]) -> Global {
        use clap::Parser;
        Cli::try_parse_from(["guardian", "status"].iter().chain(arguments)).unwrap().global
    }

    fn state_folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_state_folder_lies_beside_the_configuration() {
        assert_eq!(global(&[]).state_folder(), Path::new(".guardian"));
        assert_eq!(global(&["--config", "deploy/g.toml"]).state_folder(), Path::new("deploy/.guardian"));
        assert_eq!(global(&["--state-dir", "/var/lib/g"]).state_folder(), Path::new("/var/lib/g"));
    }

    #[test]
    fn a_local_control_plane_needs_no_flags() {
        let state = state_folder(&[(ADDRESS_FILE, "127.0.0.1:7117\n"), (TOKEN_FILE, "secret\n")]);
        let path = state.path().to_str().unwrap();
        assert_eq!(global(&["--state-dir", path]).client().unwrap().server(), "http://127.0.0.1:7117");
        assert!(global(&["--state-dir", path, "--server", "http://127.0.0.1:7117/"]).client().is_ok());
    }

    #[test]
    fn the_admin_token_goes_to_no_other_server() {
        let state = state_folder(&[(ADDRESS_FILE, "127.0.0.1:7117"), (TOKEN_FILE, "secret")]);
        let path = state.path().to_str().unwrap();
        let error = global(&["--state-dir", path, "--server", "http://203.0.113.7"]).client().unwrap_err();
        assert_eq!(error.to_string(), "there is no token for this control plane");
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let state = state_folder(&[("token", " \n")]);
        let file = state.path().join("token");
        let error = global(&["--server", "127.0.0.1:1", "--token-file", file.to_str().unwrap()]).client().unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }
}
