//! Passwords of the SQL gateway's logins: made here, given out once, and known to the store as verifiers only.

use guardian_model::{Login, LoginName, LoginScope, access::Permit};
use guardian_postgres::scram;
use guardian_store::LoginError;

use crate::{Lifecycle, secret};

impl Lifecycle {
    /// Makes a login and its password.
    pub async fn create_login(
        &self,
        permit: &Permit,
        name: &LoginName,
        scope: LoginScope,
    ) -> Result<(Login, String), LoginError> {
        let password = secret::password();
        let verifier = scram::verifier(&password);
        let login = self.engine.store.create_login(permit, name, scope, Some(&verifier)).await?;
        Ok((login, password))
    }

    /// Gives a login another password.
    pub async fn rotate_login(&self, permit: &Permit, name: &LoginName) -> Result<(Login, String), LoginError> {
        let password = secret::password();
        let login = self.engine.store.rotate_login(permit, name, &scram::verifier(&password)).await?;
        Ok((login, password))
    }
}
