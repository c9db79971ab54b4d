//! The password of the application's own login role: made once, kept sealed, given to the role by every `apply`.

use zeroize::Zeroizing;

use crate::{
    Store,
    error::{Doing, StoreError},
    vault::{hex, random},
};

/// Random bytes of a password.
const PASSWORD_BYTES: usize = 24;

impl Store {
    /// The application's password; a new one the first time.
    pub async fn application_secret(&self, application: &str) -> Result<Zeroizing<String>, StoreError> {
        const DOING: &str = "read the application's password";
        let context = format!("application:{application}");
        let fresh = Zeroizing::new(hex(&random::<PASSWORD_BYTES>()?));
        let sealed = self.vault.seal(&context, fresh.as_bytes())?;
        // The update changes nothing: it makes the row visible to RETURNING when another process was first.
        let kept: Vec<u8> = sqlx::query_scalar(
            "INSERT INTO application (name, sealed_password) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING sealed_password",
        )
        .bind(application)
        .bind(sealed)
        .fetch_one(&self.pool)
        .await
        .doing(DOING)?;
        let plain = self.vault.open(&context, &kept)?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| StoreError::Unreadable { what: "application password", value: "…".to_owned() })?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}
